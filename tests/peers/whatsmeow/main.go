// Command whatsmeow-peer is one WhatsApp companion run by an unmodified whatsmeow, controlled over
// stdin and stdout.
//
// The protocol of JSON lines is described in ../process.py. Of all clients used in the tests this is
// the one that verifies: the certificate chain of the handshake, the account signature at pairing and
// the signatures of prekey bundles.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	_ "modernc.org/sqlite"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
)

const (
	library    = "go.mau.fi/whatsmeow"
	recording  = "recording"
	leaveGrace = time.Second
	// WAL and immediate transactions: the library writes from several goroutines at once.
	pragmas = "?_pragma=foreign_keys(1)&_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate"
)

// Disconnect reasons that whatsmeow names by a type and Baileys by a number.
const (
	statusTemporaryBan = 402
	statusOutdated     = 405
	statusReplaced     = 440
)

type request struct {
	Request int    `json:"request"`
	Command string `json:"command"`
	To      string `json:"to"`
	Text    string `json:"text"`
	Phone   string `json:"phone"`
	State   string `json:"state"`
	ID      string `json:"id"`
}

type fields map[string]any

type peer struct {
	client *whatsmeow.Client
	output *os.File
	lock   sync.Mutex
}

func (p *peer) emit(event string, with fields) {
	with["event"] = event
	line, err := json.Marshal(with)
	if err != nil {
		panic(err) // only strings, numbers and booleans get here
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	fmt.Fprintln(p.output, string(line))
}

func (p *peer) emitConnection(state string, statusCode int, reason string) {
	with := fields{"state": state, "status_code": nil, "reason": nil}
	if statusCode != 0 {
		with["status_code"] = statusCode
	}
	if reason != "" {
		with["reason"] = reason
	}
	p.emit("connection", with)
}

// detour sends the requests meant for WhatsApp's host, a constant of the library, to another address.
type detour struct {
	target    *url.URL
	transport http.RoundTripper
}

func (d detour) RoundTrip(original *http.Request) (*http.Response, error) {
	rerouted := original.Clone(original.Context())
	rerouted.URL.Scheme = d.target.Scheme
	rerouted.URL.Host = d.target.Host
	rerouted.URL.Path = d.target.Path
	return d.transport.RoundTrip(rerouted)
}

// closedRoad refuses every request: nothing here may reach WhatsApp's real media servers.
type closedRoad struct{}

func (closedRoad) RoundTrip(refused *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("refused to ask %s", refused.URL.Host)
}

func newPeer(ctx context.Context, output *os.File, address, authDir, rootKey string) (*peer, error) {
	target, err := url.Parse(strings.Replace(address, "ws", "http", 1))
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(rootKey)
	if err != nil || len(key) != len(whatsmeow.WACertPubKey) {
		return nil, errors.New("the root key is not 64 hex digits")
	}
	whatsmeow.WACertPubKey = [32]byte(key)

	if err := os.MkdirAll(authDir, 0o700); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(authDir, "whatsmeow.db")+pragmas)
	if err != nil {
		return nil, err
	}
	level, err := zerolog.ParseLevel(os.Getenv("PEER_LOG_LEVEL"))
	if err != nil || level == zerolog.NoLevel {
		level = zerolog.InfoLevel
	}
	log := waLog.Zerolog(zerolog.New(os.Stderr).Level(level).With().Timestamp().Logger())
	container := sqlstore.NewWithDB(db, "sqlite3", log.Sub("Store"))
	if err := container.Upgrade(ctx); err != nil {
		return nil, err
	}
	device, err := container.GetFirstDevice(ctx)
	if err != nil {
		return nil, err
	}

	p := &peer{client: whatsmeow.NewClient(device, log), output: output}
	road := &http.Client{Transport: detour{target, &http.Transport{}}}
	p.client.SetPreLoginHTTPClient(road)
	p.client.SetWebsocketHTTPClient(road)
	p.client.SetMediaHTTPClient(&http.Client{Transport: closedRoad{}})
	p.client.AddEventHandler(p.handle)
	return p, nil
}

func (p *peer) handle(event any) {
	switch e := event.(type) {
	case *events.PairSuccess:
		p.emit("registered", fields{"jid": e.ID.String(), "lid": e.LID.String()})
	case *events.PairError:
		p.emit("error", fields{"text": fmt.Sprintf("pairing failed: %v", e.Error)})
	case *events.Connected:
		p.emitConnection("open", 0, "")
	case *events.Disconnected:
		p.emitConnection("close", 0, "disconnected")
	case *events.LoggedOut:
		p.emitConnection("close", int(e.Reason), "logged out")
	case *events.StreamReplaced:
		p.emitConnection("close", statusReplaced, "replaced")
	case *events.TemporaryBan:
		p.emitConnection("close", statusTemporaryBan, e.String())
	case *events.ClientOutdated:
		p.emitConnection("close", statusOutdated, "client outdated")
	case *events.ConnectFailure:
		p.emitConnection("close", int(e.Reason), e.Message)
	case *events.StreamError:
		p.emit("error", fields{"text": "stream error " + e.Code})
	case *events.Message:
		p.handleMessage(e)
	case *events.UndecryptableMessage:
		p.emit("undecryptable", fields{"id": e.Info.ID, "chat": e.Info.Chat.String()})
	case *events.Receipt:
		p.handleReceipt(e)
	case *events.Presence:
		p.emit("presence", fields{"chat": e.From.String(), "available": !e.Unavailable})
	case *events.ChatPresence:
		p.handleChatPresence(e)
	}
}

func (p *peer) handleChatPresence(e *events.ChatPresence) {
	state := string(e.State)
	if e.Media == types.ChatPresenceMediaAudio {
		state = recording
	}
	p.emit("chat_state", fields{"chat": e.Chat.String(), "state": state})
}

func (p *peer) handleMessage(e *events.Message) {
	text := e.Message.GetConversation()
	if text == "" {
		text = e.Message.GetExtendedTextMessage().GetText()
	}
	if text == "" {
		return
	}
	var participant any
	if e.Info.IsGroup {
		participant = e.Info.Sender.String()
	}
	p.emit("message", fields{
		"id":          e.Info.ID,
		"chat":        e.Info.Chat.String(),
		"from_me":     e.Info.IsFromMe,
		"text":        text,
		"participant": participant,
	})
}

func (p *peer) handleReceipt(e *events.Receipt) {
	status := string(e.Type)
	if e.Type == types.ReceiptTypeDelivered {
		status = "delivered" // the empty string on the wire
	}
	var participant any
	if e.IsGroup {
		participant = e.Sender.String()
	}
	for _, id := range e.MessageIDs {
		p.emit("status", fields{"id": id, "status": status, "participant": participant})
	}
}

func (p *peer) connect(ctx context.Context) error {
	if p.client.Store.ID == nil {
		codes, err := p.client.GetQRChannel(ctx)
		if err != nil {
			return err
		}
		go p.showCodes(codes)
	}
	p.emitConnection("connecting", 0, "")
	// Returns only after the handshake; an order to connect is answered at once.
	go func() {
		if err := p.client.ConnectContext(ctx); err != nil {
			p.emitConnection("close", 0, err.Error())
		}
	}()
	return nil
}

func (p *peer) close() {
	wasConnected := p.client.IsConnected()
	p.client.Disconnect()
	if wasConnected {
		p.emitConnection("close", 0, "")
	}
}

// leave closes the connection, but waits for no handshake that is under way.
func (p *peer) leave() {
	closed := make(chan struct{})
	go func() {
		p.close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(leaveGrace):
	}
}

func (p *peer) showCodes(codes <-chan whatsmeow.QRChannelItem) {
	for item := range codes {
		switch item.Event {
		case whatsmeow.QRChannelEventCode:
			p.emit("qr", fields{"text": item.Code})
		case whatsmeow.QRChannelSuccess.Event, whatsmeow.QRChannelEventError:
			// Told as PairSuccess and PairError, with more in them.
		default:
			p.emit("error", fields{"text": "pairing ended: " + item.Event})
		}
	}
}

func (p *peer) send(ctx context.Context, to, text string) (string, error) {
	jid, err := types.ParseJID(to)
	if err != nil {
		return "", err
	}
	sent, err := p.client.SendMessage(ctx, jid, &waE2E.Message{Conversation: &text})
	if err != nil {
		return "", err
	}
	// SendMessage returns once the server has acknowledged.
	p.emit("status", fields{"id": sent.ID, "status": "server_ack", "participant": nil})
	return sent.ID, nil
}

// show tells whether we are online.
func (p *peer) show(ctx context.Context, state string) error {
	if p.client.Store.PushName == "" {
		// The phone's app state would name us; the library refuses to appear without a name.
		p.client.Store.PushName = library
	}
	return p.client.SendPresence(ctx, types.Presence(state))
}

func (p *peer) subscribe(ctx context.Context, to string) error {
	jid, err := types.ParseJID(to)
	if err != nil {
		return err
	}
	return p.client.SubscribePresence(ctx, jid)
}

func (p *peer) typing(ctx context.Context, to, state string) error {
	jid, err := types.ParseJID(to)
	if err != nil {
		return err
	}
	media := types.ChatPresenceMediaText
	if state == recording {
		state, media = string(types.ChatPresenceComposing), types.ChatPresenceMediaAudio
	}
	return p.client.SendChatPresence(ctx, jid, types.ChatPresence(state), media)
}

func (p *peer) read(ctx context.Context, chat, id string) error {
	jid, err := types.ParseJID(chat)
	if err != nil {
		return err
	}
	return p.client.MarkRead(ctx, []types.MessageID{id}, time.Now(), jid, jid)
}

func (p *peer) perform(ctx context.Context, r request) (any, error) {
	switch r.Command {
	case "connect":
		return nil, p.connect(ctx)
	case "pair_code":
		return p.client.PairPhone(ctx, r.Phone, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	case "send":
		return p.send(ctx, r.To, r.Text)
	case "presence":
		return nil, p.show(ctx, r.State)
	case "subscribe":
		return nil, p.subscribe(ctx, r.To)
	case "typing":
		return nil, p.typing(ctx, r.To, r.State)
	case "read":
		return nil, p.read(ctx, r.To, r.ID)
	case "logout":
		return nil, p.client.Logout(ctx)
	case "close":
		p.close()
		return nil, nil
	case "quit":
		p.leave()
		return nil, nil
	default:
		return nil, fmt.Errorf("unknown command %s", r.Command)
	}
}

func (p *peer) answer(ctx context.Context, r request) {
	value, err := p.perform(ctx, r)
	if err != nil {
		p.emit("answer", fields{"request": r.Request, "value": nil, "error": err.Error()})
		return
	}
	p.emit("answer", fields{"request": r.Request, "value": value, "error": nil})
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == library {
			return dependency.Version
		}
	}
	return "unknown"
}

func run() error {
	address := flag.String("url", "", "WebSocket address to dial instead of WhatsApp's")
	authDir := flag.String("auth", "", "directory that keeps keys and sessions")
	rootKey := flag.String("root-key", "", "root key of the certificate chain, 64 hex digits")
	flag.Parse()

	// The Signal library prints its warnings; stdout belongs to the protocol.
	output := os.Stdout
	os.Stdout = os.Stderr

	ctx := context.Background()
	p, err := newPeer(ctx, output, *address, *authDir, *rootKey)
	if err != nil {
		return err
	}
	p.emit("ready", fields{"library": "whatsmeow", "version": version()})

	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return err
		}
		if r.Command == "quit" {
			p.answer(ctx, r)
			return nil
		}
		// Sending waits for the server; the next command must not wait for that.
		go p.answer(ctx, r)
	}
	// The end of stdin means quit, too: whoever started us may have died.
	p.leave()
	return lines.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
