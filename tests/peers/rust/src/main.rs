//! One WhatsApp companion run by an unmodified whatsapp-rust, controlled over stdin and stdout.
//!
//! The protocol of JSON lines is described in ../../process.py. Of all clients used in the tests this
//! is the one that resumes: on a reconnect it begins with Noise IK. Its root key is a constant, so it is
//! built with the library's own switch for test servers, `danger-skip-cert-chain-verify`: that leaves
//! out the two signatures of the certificate chain. Serials and static key are still compared, and the
//! account's signature, prekeys and the identities of companions are verified.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{Mutex, mpsc};
use whatsapp_rust::async_channel::Receiver;
use whatsapp_rust::http::{HttpClient, HttpRequest, HttpResponse};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::prelude::*;
use whatsapp_rust::serde_json::{Value, json};
use whatsapp_rust::transport::{
    TokioWebSocketTransportFactory, Transport, TransportEvent, TransportFactory,
};
use whatsapp_rust::types::events::{ChatPresenceUpdate, ConnectFailureReason, Receipt};
use whatsapp_rust::types::presence::{ChatPresence, ChatPresenceMedia, ReceiptType};
use whatsapp_rust::wacore::store::Device;
use whatsapp_rust::{anyhow, async_trait, serde};

type Failure = Box<dyn Error + Send + Sync>;
type Opened = (Arc<dyn Transport>, Receiver<TransportEvent>);

const LOCK: &str = include_str!("../Cargo.lock");
const LIBRARY: &str = "whatsapp-rust";
const NAME: &str = "Peer";
const LEAVE_GRACE: Duration = Duration::from_secs(2);

// Disconnect reasons that the library names by a type and Baileys by a number.
const STATUS_TEMPORARY_BAN: i32 = 402;
const STATUS_OUTDATED: i32 = 405;
const STATUS_REPLACED: i32 = 440;

#[derive(Deserialize)]
#[serde(crate = "whatsapp_rust::serde")]
struct Request {
    request: u64,
    command: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    phone: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    id: String,
}

/// Write one event; a line is written whole.
fn emit(event: &str, mut fields: Value) {
    fields["event"] = json!(event);
    let mut output = std::io::stdout().lock();
    // Whoever started us may have died; the end of stdin ends us.
    let _ = writeln!(output, "{fields}").and_then(|()| output.flush());
}

fn emit_connection(state: &str, status_code: Option<i32>, reason: Option<String>) {
    emit(
        "connection",
        json!({"state": state, "status_code": status_code, "reason": reason}),
    );
}

/// Logs go to stderr; stdout belongs to the protocol.
struct StderrLog;

impl log::Log for StderrLog {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        eprintln!("{} {} {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}

/// Refuses every request: nothing here may reach WhatsApp's real media servers.
struct ClosedRoad;

#[async_trait]
impl HttpClient for ClosedRoad {
    async fn execute(&self, refused: HttpRequest) -> anyhow::Result<HttpResponse> {
        Err(anyhow::anyhow!("refused to ask {}", refused.url))
    }
}

/// The library's own transport; tells of a dial that fails, which the library only logs.
struct Dialler(TokioWebSocketTransportFactory);

#[async_trait]
impl TransportFactory for Dialler {
    async fn create_transport(&self) -> anyhow::Result<Opened> {
        let opened = self.0.create_transport().await;
        if let Err(error) = &opened {
            emit_connection("close", None, Some(error.to_string()));
        }
        opened
    }
}

/// Tells what the library reports.
struct Reporter;

impl EventHandler for Reporter {
    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::PairingQrCode(qr) => emit("qr", json!({"text": qr.code})),
            Event::PairingQrCodesExhausted(_) => {
                emit(
                    "error",
                    json!({"text": "pairing ended: the codes are used up"}),
                );
            }
            Event::PairSuccess(paired) => emit(
                "registered",
                json!({"jid": paired.id.to_string(), "lid": paired.lid.to_string()}),
            ),
            Event::PairError(failed) => {
                emit(
                    "error",
                    json!({"text": format!("pairing failed: {}", failed.error)}),
                );
            }
            Event::Connected(_) => emit_connection("open", None, None),
            Event::Disconnected(lost) => {
                emit_connection("close", None, Some(lost.reason.to_string()));
            }
            Event::LoggedOut(out) => emit_failure(&out.reason, "logged out"),
            Event::StreamReplaced(_) => {
                emit_connection("close", Some(STATUS_REPLACED), Some("replaced".into()));
            }
            Event::TemporaryBan(ban) => {
                emit_connection(
                    "close",
                    Some(STATUS_TEMPORARY_BAN),
                    Some(format!("{:?}", ban.code)),
                );
            }
            Event::ClientOutdated(_) => {
                emit_connection(
                    "close",
                    Some(STATUS_OUTDATED),
                    Some("client outdated".into()),
                );
            }
            Event::ConnectFailure(failed) => {
                emit_failure(
                    &failed.reason,
                    failed.message.as_deref().unwrap_or_default(),
                );
            }
            Event::StreamError(error) => {
                emit(
                    "error",
                    json!({"text": format!("stream error {}", error.code)}),
                );
            }
            Event::Messages(batch) => batch.iter().for_each(emit_message),
            Event::UndecryptableMessage(message) => emit(
                "undecryptable",
                json!({"id": message.info.id, "chat": message.info.source.chat.to_string()}),
            ),
            Event::Receipt(receipt) => emit_receipt(receipt),
            Event::Presence(shown) => emit(
                "presence",
                json!({"chat": shown.from.to_string(), "available": !shown.unavailable}),
            ),
            Event::ChatPresence(shown) => emit_chat_state(shown),
            Event::ServerAck(ack) if ack.class.as_deref() == Some("message") => {
                let status = if ack.error.is_some() {
                    "error"
                } else {
                    "server_ack"
                };
                emit(
                    "status",
                    json!({"id": ack.id, "status": status, "participant": null}),
                );
            }
            _ => {}
        }
    }
}

fn emit_failure(reason: &ConnectFailureReason, text: &str) {
    emit_connection("close", Some(reason.code()), Some(text.into()));
}

fn emit_message(received: &InboundMessage) {
    let Some(text) = received
        .message
        .text_content()
        .filter(|text| !text.is_empty())
    else {
        return;
    };
    let source = &received.info.source;
    emit(
        "message",
        json!({
            "id": received.info.id,
            "chat": source.chat.to_string(),
            "from_me": source.is_from_me,
            "text": text,
            "participant": source.is_group.then(|| source.sender.to_string()),
        }),
    );
}

fn emit_chat_state(shown: &ChatPresenceUpdate) {
    let state = match (&shown.state, &shown.media) {
        (ChatPresence::Paused, _) => "paused",
        (ChatPresence::Composing, ChatPresenceMedia::Text) => "composing",
        (ChatPresence::Composing, ChatPresenceMedia::Audio) => "recording",
    };
    emit(
        "chat_state",
        json!({"chat": shown.source.chat.to_string(), "state": state}),
    );
}

fn emit_receipt(receipt: &Receipt) {
    let status = match &receipt.r#type {
        ReceiptType::Delivered => "delivered", // no type on the wire
        other => other.as_wire_str(),
    };
    let source = &receipt.source;
    let participant = source.is_group.then(|| source.sender.to_string());
    for id in &receipt.message_ids {
        emit(
            "status",
            json!({"id": id, "status": status, "participant": participant}),
        );
    }
}

struct Peer {
    url: String,
    database: String,
    running: Mutex<Option<BotHandle>>,
}

impl Peer {
    /// Begin to connect; a client that was closed is made anew from what it left on disk.
    async fn connect(&self) -> Result<(), Failure> {
        let known = Device::new();
        let bot = Bot::builder()
            .with_backend(SqliteStore::new(&self.database).await?)
            .with_transport_factory(Dialler(
                TokioWebSocketTransportFactory::new().with_url(&self.url),
            ))
            .with_http_client(ClosedRoad)
            // Else the library asks web.whatsapp.com for the newest one.
            .with_version((
                known.app_version_primary,
                known.app_version_secondary,
                known.app_version_tertiary,
            ))
            // Else every login waits ten seconds for the app state that would hold it.
            .with_push_name(NAME)
            .with_event_handler(Reporter)
            .build()
            .await?;
        emit_connection("connecting", None, None);
        *self.running.lock().await = Some(bot.spawn());
        Ok(())
    }

    async fn client(&self) -> Result<Arc<Client>, Failure> {
        let running = self.running.lock().await;
        Ok(running.as_ref().ok_or("not connected")?.client())
    }

    async fn close(&self) {
        if let Some(handle) = self.running.lock().await.take() {
            handle.shutdown().await;
            emit_connection("close", None, None);
        }
    }

    async fn send(&self, to: &str, text: String) -> Result<String, Failure> {
        let to: Jid = to.parse()?;
        let sent = self.client().await?.send_text(to, text).await?;
        Ok(sent.message_id)
    }

    async fn pair_code(&self, phone_number: String) -> Result<String, Failure> {
        let options = PairCodeOptions {
            phone_number,
            ..Default::default()
        };
        Ok(self.client().await?.pair_with_code(options).await?)
    }

    async fn appear(&self, state: &str) -> Result<(), Failure> {
        let client = self.client().await?;
        match state {
            "available" => client.presence().set_available().await?,
            _ => client.presence().set_unavailable().await?,
        }
        Ok(())
    }

    async fn subscribe(&self, to: &str) -> Result<(), Failure> {
        let to: Jid = to.parse()?;
        Ok(self.client().await?.presence().subscribe(to).await?)
    }

    async fn show(&self, to: &str, state: &str) -> Result<(), Failure> {
        let to: Jid = to.parse()?;
        let client = self.client().await?;
        match state {
            "composing" => client.chatstate().send_composing(&to).await?,
            "recording" => client.chatstate().send_recording(&to).await?,
            _ => client.chatstate().send_paused(&to).await?,
        }
        Ok(())
    }

    async fn read(&self, chat: &str, id: &str) -> Result<(), Failure> {
        let chat: Jid = chat.parse()?;
        Ok(self
            .client()
            .await?
            .mark_as_read(&chat, None, &[id])
            .await?)
    }

    async fn log_out(&self) -> Result<(), Failure> {
        self.client().await?.logout().await;
        Ok(())
    }

    async fn perform(&self, order: Request) -> Result<Option<String>, Failure> {
        match order.command.as_str() {
            "connect" => self.connect().await.map(|()| None),
            "pair_code" => self.pair_code(order.phone).await.map(Some),
            "send" => self.send(&order.to, order.text).await.map(Some),
            "presence" => self.appear(&order.state).await.map(|()| None),
            "subscribe" => self.subscribe(&order.to).await.map(|()| None),
            "typing" => self.show(&order.to, &order.state).await.map(|()| None),
            "read" => self.read(&order.to, &order.id).await.map(|()| None),
            "logout" => self.log_out().await.map(|()| None),
            "close" => {
                self.close().await;
                Ok(None)
            }
            "quit" => {
                self.leave().await;
                Ok(None)
            }
            unknown => Err(format!("unknown command {unknown}").into()),
        }
    }

    async fn answer(&self, order: Request) {
        let request = order.request;
        let (value, error) = match self.perform(order).await {
            Ok(value) => (value, None),
            Err(error) => (None, Some(error.to_string())),
        };
        emit(
            "answer",
            json!({"request": request, "value": value, "error": error}),
        );
    }

    /// Close the connection, but wait for nothing that hangs.
    async fn leave(&self) {
        let _ = tokio::time::timeout(LEAVE_GRACE, self.close()).await;
    }
}

/// The version of the library, as the lock file pins it.
fn version() -> &'static str {
    LOCK.split("[[package]]")
        .find(|package| package.contains(&format!("name = \"{LIBRARY}\"\n")))
        .and_then(|package| package.split("version = \"").nth(1)?.split('"').next())
        .unwrap_or("unknown")
}

async fn serve(peer: Arc<Peer>, mut lines: mpsc::UnboundedReceiver<String>) -> Result<(), Failure> {
    emit("ready", json!({"library": LIBRARY, "version": version()}));
    while let Some(line) = lines.recv().await {
        let order: Request = whatsapp_rust::serde_json::from_str(&line)?;
        if order.command == "quit" {
            peer.answer(order).await;
            return Ok(());
        }
        // Sending waits for the server; the next command must not wait for that.
        let peer = peer.clone();
        tokio::spawn(async move { peer.answer(order).await });
    }
    // The end of stdin means quit, too: whoever started us may have died.
    peer.leave().await;
    Ok(())
}

fn argument(name: &str) -> Result<String, Failure> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next();
    arguments
        .next()
        .ok_or_else(|| format!("{name} is missing").into())
}

fn main() -> Result<(), Failure> {
    log::set_max_level(match std::env::var("PEER_LOG_LEVEL").as_deref() {
        Ok("trace") => log::LevelFilter::Trace,
        Ok("debug") => log::LevelFilter::Debug,
        _ => log::LevelFilter::Info,
    });
    log::set_logger(&StderrLog).expect("no other logger is set before");

    let directory = argument("--auth")?;
    std::fs::create_dir_all(&directory)?;
    let database = Path::new(&directory).join("whatsapp.db");
    let peer = Arc::new(Peer {
        url: argument("--url")?,
        database: database
            .to_str()
            .ok_or("the directory is not UTF-8")?
            .into(),
        running: Mutex::new(None),
    });

    let (orders, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if orders.send(line).is_err() {
                return;
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(peer, lines));
    // What the library left running must not keep the process.
    runtime.shutdown_background();
    served
}
