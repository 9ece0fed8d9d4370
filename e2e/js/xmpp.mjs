// usage: node xmpp.mjs SERVICE USER send TO     each line of standard input, base64 of a text, is one message
//        node xmpp.mjs SERVICE USER recv N      prints the bodies of N messages, base64, a line each
// SERVICE is xmpp://host:port, xmpps://… or ws://host:port/xmpp-websocket. Password is always "secret".
import ws from 'ws'
globalThis.WebSocket = ws
const { client, xml } = await import('@xmpp/client')
import { createInterface } from 'node:readline'

const [service, username, verb, arg] = process.argv.slice(2)
const patience = 60000 // milliseconds; xmpp.js would give a server two seconds to answer
const xmpp = client({ service, domain: 'localhost', username, password: 'secret', resource: process.env.DEVICE ?? 'xmppjs-' + verb, timeout: patience })
xmpp.on('error', err => console.error('error', err))

let left = Number(arg)
if (verb === 'recv') {
  xmpp.on('stanza', async stanza => {
    const body = stanza.is('message') && stanza.getChildText('body')
    if (body === false || body === null) return
    console.log(Buffer.from(body).toString('base64'))
    if (--left === 0) setTimeout(() => xmpp.stop(), 200)
  })
}
await xmpp.start()
if (verb === 'send') {
  for await (const line of createInterface({ input: process.stdin })) {
    await xmpp.send(xml('message', { to: arg, type: 'chat', id: 'js' + Math.random() },
      xml('body', {}, Buffer.from(line, 'base64').toString())))
  }
  // What was sent before a ping has been dealt with when its answer is here.
  await xmpp.iqCaller.request(xml('iq', { type: 'get', to: 'localhost' }, xml('ping', 'urn:xmpp:ping')), patience)
  console.log('stored')
  await xmpp.stop()
} else {
  await xmpp.send(xml('presence'))
}
