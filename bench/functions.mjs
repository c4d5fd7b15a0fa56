/**
 * The functions of an unmodified Baileys, and of the libsignal it uses, timed on given inputs.
 *
 * Called with the file of inputs (inputs.py writes it). Says which Baileys it is, then answers JSON
 * lines: `show` a row (do it once and tell the result), `time` it (do it so often; seconds of
 * processor time of this whole process), `say` and `hear` as the second person of a session. Each
 * row has a function that makes everything a run needs, outside of the time, and returns what is
 * timed. Where Baileys has a step inside its socket alone, the lines of that step stand here.
 */
import { Console } from 'node:console'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

// libsignal tells its session changes to the console; stdout belongs to whoever started us.
globalThis.console = new Console(process.stderr, process.stderr)

const require = createRequire(new URL('../tests/peers/baileys/package.json', import.meta.url))
const path = require.resolve('@whiskeysockets/baileys')
const {
  DEFAULT_CONNECTION_CONFIG,
  NOISE_WA_HEADER,
  addTransactionCapability,
  decodeBinaryNode,
  decodeMessageNode,
  decryptMessageNode,
  encodeBinaryNode,
  encodeWAMessage,
  makeNoiseHandler,
  proto,
  unpadRandomMax16
} = await import(path)
const { default: pino } = await import(require.resolve('pino'))
const { ProtocolAddress, SessionBuilder, SessionCipher, SessionRecord } =
  createRequire(path)('libsignal')

const inputs = JSON.parse(readFileSync(process.argv[2]))
const logger = pino({ level: 'silent' })

const bytes = text => Buffer.from(text, 'base64')
const pair = ({ private: secret, public: open }) => ({ private: bytes(secret), public: bytes(open) })

// --- Noise ---

const ephemeral = pair(inputs.noise.ephemeral)
const noiseKey = pair(inputs.noise.noise)
const clientPayload = bytes(inputs.noise.payload)
const serverHello = bytes(inputs.noise.serverHello)

/** What the socket does from its key pair to the last message of the handshake. */
const shakeHands = () => {
  const noise = makeNoiseHandler({ keyPair: ephemeral, NOISE_HEADER: NOISE_WA_HEADER, logger })
  const handshake = proto.HandshakeMessage.decode(serverHello)
  const keyEnc = noise.processHandshake(handshake, noiseKey)
  const payloadEnc = noise.encrypt(clientPayload)
  const finish = proto.HandshakeMessage.encode({
    clientFinish: { static: keyEnc, payload: payloadEnc }
  }).finish()
  return { noise, finish }
}

/** A connection on which stanzas can be sent, its introduction being over. */
const connect = async () => {
  const { noise, finish } = shakeHands()
  noise.encodeFrame(finish)
  await noise.finishInit()
  return noise
}

// --- Signal ---

const signalPair = ({ private: secret, public: open }) => ({
  privKey: bytes(secret),
  pubKey: Buffer.concat([Buffer.from([5]), bytes(open)])
})

/** A person whose sessions are kept in memory, as objects. */
const keepInMemory = (person, sessions) => {
  const identity = signalPair(person.identity)
  const signedPreKey = signalPair(person.signedPreKey.keyPair)
  const preKey = signalPair(person.preKey.keyPair)
  return {
    getOurIdentity: () => identity,
    getOurRegistrationId: () => person.registrationId,
    isTrustedIdentity: () => true,
    loadPreKey: () => preKey,
    loadSession: id => sessions.get(id),
    loadSignedPreKey: () => signedPreKey,
    removePreKey: () => {},
    storeSession: (id, record) => sessions.set(id, record)
  }
}

const somebody = new ProtocolAddress('somebody', 1)
const cipherOf = (person, record) => {
  const sessions = new Map()
  if (record) {
    sessions.set(somebody.toString(), SessionRecord.deserialize(structuredClone(record)))
  }
  return new SessionCipher(keepInMemory(person, sessions), somebody)
}

const bundleOf = ({ identity, registrationId, signedPreKey, preKey }) => ({
  registrationId,
  identityKey: signalPair(identity).pubKey,
  signedPreKey: {
    keyId: signedPreKey.keyId,
    publicKey: signalPair(signedPreKey.keyPair).pubKey,
    signature: bytes(signedPreKey.signature)
  },
  preKey: { keyId: preKey.keyId, publicKey: signalPair(preKey.keyPair).pubKey }
})

const plaintext = bytes(inputs.plaintext)
const opening = bytes(inputs.opening)
const chain = inputs.chain.map(bytes)

/** Baileys' own store of sessions, on keys in memory; it writes them as JSON values. */
const repositoryOf = (person, sessions) => {
  const kept = { session: sessions }
  const plain = {
    get: async (type, ids) =>
      Object.fromEntries(ids.map(id => [id, kept[type]?.[id]]).filter(([, value]) => value)),
    set: async data => {
      for (const [type, values] of Object.entries(data)) {
        kept[type] = { ...kept[type], ...values }
      }
    }
  }
  const keys = addTransactionCapability(plain, logger, DEFAULT_CONNECTION_CONFIG.transactionOpts)
  const creds = {
    signedIdentityKey: pair(person.identity),
    registrationId: person.registrationId,
    signedPreKey: { ...person.signedPreKey, keyPair: pair(person.signedPreKey.keyPair) }
  }
  const noLid = async () => undefined
  return { keys, repository: DEFAULT_CONNECTION_CONFIG.makeSignalRepository({ creds, keys }, logger, noLid) }
}

const addressOf = jid => {
  const [, user, device] = /^(\d+)(?::(\d+))?@lid$/.exec(jid)
  return new ProtocolAddress(`${user}_1`, Number(device ?? 0))
}

// --- Whole ---

/** The steps of relayMessage that remain once the devices are known; `encrypt` is for one device. */
const sendWith = async (noise, encrypt) => {
  const message = { conversation: inputs.text }
  const forOwn = {
    deviceSentMessage: { destinationJid: inputs.to, message },
    messageContextInfo: message.messageContextInfo
  }
  const own = inputs.ownLid.split(':')[0]
  const nodes = await Promise.all(
    inputs.peers.map(async ({ jid }) => {
      const data = encodeWAMessage(jid.startsWith(own) ? forOwn : message)
      const { type, ciphertext } = await encrypt(jid, data)
      return {
        tag: 'to',
        attrs: { jid },
        content: [{ tag: 'enc', attrs: { v: '2', type }, content: ciphertext }]
      }
    })
  )
  return noise.encodeFrame(
    encodeBinaryNode({
      tag: 'message',
      attrs: { id: inputs.id, to: inputs.to, type: 'text', peer_recipient_pn: inputs.toPn },
      content: [{ tag: 'participants', attrs: {}, content: nodes }]
    })
  )
}

const incoming = inputs.incoming.map(bytes)

const nodeOf = async (noise, frame) => {
  let node
  await noise.decodeFrame(frame, received => {
    node = received
  })
  return node
}

/** sendReceipt for one message of one person, then the text and the frame. */
const receipted = (noise, key, message) => ({
  text: message.conversation,
  frame: noise.encodeFrame(
    encodeBinaryNode({ tag: 'receipt', attrs: { id: key.id, to: key.remoteJid } })
  )
})

// --- Rows ---

const rows = {
  'handshake, client': () => () => shakeHands().finish,
  'first message, sent': count => {
    const ciphers = Array.from({ length: count }, () => cipherOf(inputs.first))
    const bundle = bundleOf(inputs.second)
    return async index => {
      const cipher = ciphers[index]
      await new SessionBuilder(cipher.storage, somebody).initOutgoing(bundle)
      return (await cipher.encrypt(plaintext)).body
    }
  },
  'first message, received': count => {
    const ciphers = Array.from({ length: count }, () => cipherOf(inputs.second))
    return async index => ciphers[index].decryptPreKeyWhisperMessage(opening)
  },
  'encrypt in a chain': () => {
    const cipher = cipherOf(inputs.first, inputs.firstRecord)
    return async () => (await cipher.encrypt(plaintext)).body
  },
  'decrypt in a chain': () => {
    const cipher = cipherOf(inputs.second, inputs.inChain)
    return async index => cipher.decryptWhisperMessage(chain[index])
  },
  'decrypt out of order': () => {
    const cipher = cipherOf(inputs.second, inputs.inChain)
    return async index => cipher.decryptWhisperMessage(chain[inputs.order[index]])
  },
  'ping-pong, encrypt and decrypt': () => {
    const both = [
      cipherOf(inputs.first, inputs.firstRecord),
      cipherOf(inputs.second, inputs.secondRecord)
    ]
    return async index => {
      const { body } = await both[index % 2].encrypt(plaintext)
      return both[(index + 1) % 2].decryptWhisperMessage(body)
    }
  },
  'send to 5 devices': async () => {
    const noise = await connect()
    const ciphers = new Map()
    for (const { jid, record } of inputs.peers) {
      const address = addressOf(jid)
      const sessions = new Map([[address.toString(), SessionRecord.deserialize(record)]])
      ciphers.set(jid, new SessionCipher(keepInMemory(inputs.first, sessions), address))
    }
    return async () =>
      sendWith(noise, async (jid, data) => {
        const { type, body } = await ciphers.get(jid).encrypt(data)
        return { type: type === 3 ? 'pkmsg' : 'msg', ciphertext: body }
      })
  },
  'send to 5 devices, sessions stored': async () => {
    const noise = await connect()
    const sessions = Object.fromEntries(
      inputs.peers.map(({ jid, record }) => [addressOf(jid).toString(), structuredClone(record)])
    )
    const { keys, repository } = repositoryOf(inputs.first, sessions)
    return async () =>
      keys.transaction(
        async () => sendWith(noise, (jid, data) => repository.encryptMessage({ jid, data })),
        inputs.ownPn
      )
  },
  receive: async () => {
    const noise = await connect()
    const cipher = cipherOf(inputs.second, inputs.inChain)
    return async index => {
      const node = await nodeOf(noise, incoming[index])
      const { fullMessage } = decodeMessageNode(node, inputs.ownPn, inputs.ownLid)
      const enc = node.content.find(({ tag }) => tag === 'enc')
      const opened = await cipher.decryptWhisperMessage(enc.content)
      return receipted(noise, fullMessage.key, proto.Message.decode(unpadRandomMax16(opened)))
    }
  },
  'receive, sessions stored': async () => {
    const noise = await connect()
    const sessions = { [addressOf(inputs.from).toString()]: structuredClone(inputs.inChain) }
    const { repository } = repositoryOf(inputs.second, sessions)
    return async index => {
      const node = await nodeOf(noise, incoming[index])
      const opened = decryptMessageNode(node, inputs.ownPn, inputs.ownLid, repository, logger)
      await opened.decrypt()
      return receipted(noise, opened.fullMessage.key, opened.fullMessage.message)
    }
  }
}

for (const [kind, { node, encoded }] of Object.entries(inputs.stanzas)) {
  const revived = revive(node)
  const stanza = bytes(encoded)
  rows[`encode ${kind}`] = () => () => encodeBinaryNode(revived)
  rows[`decode ${kind}`] = () => () => decodeBinaryNode(stanza)
}
const deflated = bytes(inputs.deflated)
rows['decode a large one, deflated'] = () => () => decodeBinaryNode(deflated)

for (const [length, frames] of Object.entries(inputs.frames)) {
  const plain = bytes(frames.plaintext)
  const sealed = frames.sealed.map(bytes)
  rows[`seal a frame of ${length} bytes`] = async () => {
    const noise = await connect()
    return () => noise.encodeFrame(plain)
  }
  rows[`open a frame of ${length} bytes`] = async () => {
    const noise = await connect()
    return index => noise.decrypt(sealed[index])
  }
}

/** Nodes come as JSON, bytes marked as such, and go so. */
function revive(node) {
  const { content } = node
  if (Array.isArray(content)) {
    return { ...node, content: content.map(revive) }
  }
  return content?.bytes === undefined ? node : { ...node, content: bytes(content.bytes) }
}

const plain = value => {
  if (value instanceof Uint8Array) {
    return { bytes: Buffer.from(value).toString('base64') }
  }
  if (Array.isArray(value)) {
    return value.map(plain)
  }
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]))
  }
  return value
}

// --- Commands ---

const second = cipherOf(inputs.second, inputs.secondRecord)

const time = async (make, count) => {
  // Waiting where there is no promise would be charged to Baileys.
  const first = (await make(1))(0)
  const isAsync = first instanceof Promise
  await first
  const once = await make(count)
  const before = process.cpuUsage()
  if (isAsync) {
    for (let index = 0; index < count; index++) {
      await once(index)
    }
  } else {
    for (let index = 0; index < count; index++) {
      once(index)
    }
  }
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1e6
}

const perform = async ({ command, row, count, body }) => {
  switch (command) {
    case 'show':
      return plain(await (await rows[row](1))(0))
    case 'time':
      return await time(rows[row], count)
    case 'say':
      return plain((await second.encrypt(plaintext)).body)
    case 'hear':
      return plain(await second.decryptWhisperMessage(bytes(body)))
    default:
      throw new Error(`unknown command ${command}`)
  }
}

const tell = value => process.stdout.write(JSON.stringify(value) + '\n')

tell({ version: require('@whiskeysockets/baileys/package.json').version, node: process.version })
for await (const line of createInterface({ input: process.stdin })) {
  try {
    tell({ value: await perform(JSON.parse(line)) })
  } catch (error) {
    tell({ error: String(error?.stack ?? error) })
  }
}
process.exit(0)
