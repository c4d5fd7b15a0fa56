/**
 * Many companions in one process, each a socket of an unmodified Baileys with keys in memory.
 *
 * Called with the WebSocket address and a file of companions (peer.py writes it). Says which Baileys
 * it is, waits for a line on stdin so that its memory can be looked at before, and connects them all.
 */
import { Console } from 'node:console'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

// libsignal tells its session changes to the console; stdout belongs to whoever started us.
globalThis.console = new Console(process.stderr, process.stderr)

const require = createRequire(new URL('../tests/peers/baileys/package.json', import.meta.url))
const load = async name => import(require.resolve(name))
const { default: makeWASocket, initAuthCreds, proto } = await load('@whiskeysockets/baileys')
const { default: pino } = await load('pino')

const [url, path] = process.argv.slice(2)
const logger = pino({ level: 'fatal' }, pino.destination(2))

const bytes = text => Buffer.from(text, 'base64')
const pair = ({ private: secret, public: open }) => ({ private: bytes(secret), public: bytes(open) })

const credentialsOf = companion => ({
  ...initAuthCreds(),
  noiseKey: pair(companion.noiseKey),
  signedIdentityKey: pair(companion.signedIdentityKey),
  signedPreKey: {
    keyPair: pair(companion.signedPreKey.keyPair),
    signature: bytes(companion.signedPreKey.signature),
    keyId: companion.signedPreKey.keyId
  },
  registrationId: companion.registrationId,
  advSecretKey: companion.advSecretKey,
  me: companion.me,
  account: proto.ADVSignedDeviceIdentity.decode(bytes(companion.account)),
  platform: companion.platform,
  registered: true,
  nextPreKeyId: 13,
  firstUnuploadedPreKeyId: 13
})

const keysInMemory = () => {
  const kept = new Map()
  return {
    get: async (type, ids) =>
      Object.fromEntries(ids.map(id => [id, kept.get(`${type} ${id}`)]).filter(([, value]) => value)),
    set: async data => {
      for (const [type, values] of Object.entries(data)) {
        for (const [id, value] of Object.entries(values)) {
          kept.set(`${type} ${id}`, value)
        }
      }
    }
  }
}

const companions = JSON.parse(readFileSync(path))
process.stdout.write(require('@whiskeysockets/baileys/package.json').version + '\n')
process.stdin.once('data', () => {
  for (const companion of companions) {
    makeWASocket({
      waWebSocketUrl: url,
      auth: { creds: credentialsOf(companion), keys: keysInMemory() },
      logger
    })
  }
})
