/**
 * One WhatsApp companion run by an unmodified Baileys, controlled over stdin and stdout.
 *
 * The protocol of JSON lines is described in ../process.py. Baileys is used as an application would
 * use it: public options only, its own multi-file auth state, a new socket whenever the old one ends
 * for a reason that does not need a person.
 */
import { Console } from 'node:console'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

import pino from 'pino'

// libsignal tells its session changes to the console; stdout belongs to the protocol.
globalThis.console = new Console(process.stderr, process.stderr)

const {
  DisconnectReason,
  default: makeWASocket,
  normalizeMessageContent,
  proto,
  useMultiFileAuthState
} = await import('@whiskeysockets/baileys')

const { values: options } = parseArgs({
  options: { url: { type: 'string' }, auth: { type: 'string' } }
})
const logger = pino({ level: process.env.PEER_LOG_LEVEL ?? 'info' }, pino.destination(2))

const RECONNECT_DELAY_MS = 1000
/** Ends that need a person or another device first; everything else is tried again. */
const RESTING = new Set([
  DisconnectReason.loggedOut,
  DisconnectReason.forbidden,
  DisconnectReason.multideviceMismatch,
  DisconnectReason.connectionReplaced,
  402, // temporarily banned
  405, // client outdated
  406 // banned
])

const { ERROR, PENDING, SERVER_ACK, DELIVERY_ACK, READ, PLAYED } = proto.WebMessageInfo.Status
const STATUS_WORDS = new Map([
  [ERROR, 'error'],
  [PENDING, 'pending'],
  [SERVER_ACK, 'server_ack'],
  [DELIVERY_ACK, 'delivered'],
  [READ, 'read'],
  [PLAYED, 'played']
])

/** The open socket, or undefined while there is none. */
let socket
let reconnectTimer
/** What is being written to the auth directory right now. */
const writes = new Set()

const emit = event => process.stdout.write(JSON.stringify(event) + '\n')
const emitStatus = (id, status, participant) =>
  emit({ event: 'status', id, status, participant: participant ?? null })

const track = write => {
  writes.add(write)
  write
    .catch(error => emit({ event: 'error', text: `cannot write the auth directory: ${error}` }))
    .finally(() => writes.delete(write))
  return write
}

const settleWrites = async () => {
  while (writes.size) {
    await Promise.allSettled(writes)
  }
}

const connect = async () => {
  // What the previous socket learnt has to be on disk before it is read again.
  await settleWrites()
  const { state, saveCreds } = await useMultiFileAuthState(options.auth)
  const keys = { get: state.keys.get, set: data => track(state.keys.set(data)) }
  const current = makeWASocket({
    waWebSocketUrl: options.url,
    auth: { creds: state.creds, keys },
    emitOwnEvents: false,
    logger
  })
  socket = current
  current.ev.on('creds.update', () => track(saveCreds()))
  current.ev.on('connection.update', update => onConnection(current, update))
  current.ev.on('messages.upsert', ({ messages }) => messages.forEach(onMessage))
  current.ev.on('messages.update', updates => {
    for (const { key, update } of updates) {
      if (STATUS_WORDS.has(update.status)) {
        emitStatus(key.id, STATUS_WORDS.get(update.status), key.participant)
      }
    }
  })
  current.ev.on('presence.update', ({ id: chat, presences }) => {
    for (const { lastKnownPresence: state } of Object.values(presences)) {
      if (state === 'composing' || state === 'recording') {
        emit({ event: 'chat_state', chat, state })
      } else {
        // Who pauses is `available` here, as who comes online.
        emit({ event: 'presence', chat, available: state === 'available' })
      }
    }
  })
  current.ev.on('message-receipt.update', updates => {
    for (const { key, receipt } of updates) {
      emitStatus(key.id, receipt.readTimestamp ? 'read' : 'delivered', receipt.userJid)
    }
  })
  // Baileys reports a refused message by itself, and an accepted one only here.
  current.ws.on('CB:ack,class:message', ({ attrs }) => {
    if (!attrs.error) {
      emitStatus(attrs.id, 'server_ack')
    }
  })
}

const onConnection = (current, { connection, lastDisconnect, isNewLogin, qr }) => {
  if (qr) {
    emit({ event: 'qr', text: qr })
  }
  if (isNewLogin) {
    const { id, lid } = current.authState.creds.me
    emit({ event: 'registered', jid: id, lid })
  }
  if (!connection) {
    return
  }
  const error = lastDisconnect?.error
  const statusCode = connection === 'close' ? (error?.output?.statusCode ?? null) : null
  emit({
    event: 'connection',
    state: connection,
    status_code: statusCode,
    reason: connection === 'close' ? (error?.message ?? null) : null
  })
  if (connection === 'close' && socket === current) {
    socket = undefined
    if (!RESTING.has(statusCode)) {
      const delay = statusCode === DisconnectReason.restartRequired ? 0 : RECONNECT_DELAY_MS
      reconnectTimer = setTimeout(() => connect().catch(fail), delay)
    }
  }
}

const onMessage = ({ key, message, messageStubType }) => {
  const { id, remoteJid: chat, fromMe, participant } = key
  if (messageStubType === proto.WebMessageInfo.StubType.CIPHERTEXT) {
    emit({ event: 'undecryptable', id, chat })
    return
  }
  const content = normalizeMessageContent(message)
  const text = content?.conversation || content?.extendedTextMessage?.text
  if (text) {
    const author = participant || null
    emit({ event: 'message', id, chat, from_me: Boolean(fromMe), text, participant: author })
  }
}

const close = async () => {
  clearTimeout(reconnectTimer)
  const current = socket
  // Forgotten first: an end that was asked for must not dial again.
  socket = undefined
  await current?.end(undefined)
  await settleWrites()
}

const perform = async ({ command, to, text, phone, state, id }) => {
  switch (command) {
    case 'connect':
      if (socket) {
        throw new Error('already connected or connecting')
      }
      clearTimeout(reconnectTimer)
      await connect()
      return null
    case 'send':
      if (!socket) {
        throw new Error('not connected')
      }
      return (await socket.sendMessage(to, { text })).key.id
    case 'pair_code':
      if (!socket) {
        throw new Error('not connected')
      }
      return await socket.requestPairingCode(phone)
    case 'presence':
      await socket.sendPresenceUpdate(state)
      return null
    case 'subscribe':
      await socket.presenceSubscribe(to)
      return null
    case 'typing':
      await socket.sendPresenceUpdate(state, to)
      return null
    case 'read':
      await socket.readMessages([{ remoteJid: to, id, fromMe: false }])
      return null
    case 'logout':
      await socket.logout()
      return null
    case 'close':
    case 'quit':
      await close()
      return null
    default:
      throw new Error(`unknown command ${command}`)
  }
}

const answer = async line => {
  const request = JSON.parse(line)
  try {
    emit({ event: 'answer', request: request.request, value: await perform(request), error: null })
  } catch (error) {
    emit({ event: 'answer', request: request.request, value: null, error: String(error) })
  }
  if (request.command === 'quit') {
    process.exit(0)
  }
}

const fail = error => {
  process.stderr.write(`${error?.stack ?? error}\n`)
  emit({ event: 'error', text: String(error) })
}

process.on('unhandledRejection', fail)
process.on('uncaughtException', fail)

const require = createRequire(import.meta.url)
const { version } = require('@whiskeysockets/baileys/package.json')
emit({ event: 'ready', library: 'baileys', version })

// The end of stdin means quit, too: whoever started us may have died.
createInterface({ input: process.stdin })
  .on('line', line => void answer(line))
  .on('close', () => close().catch(fail).then(() => process.exit(0)))
