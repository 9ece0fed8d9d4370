// usage: node mqtt.mjs URL USER send TO     each line of standard input, base64, is one message
//        node mqtt.mjs URL USER recv N      prints the bodies of N messages, base64, a line each
// MQTT_VERSION is 4 or 5. Password is always "secret".
import mqtt from 'mqtt'
import { createInterface } from 'node:readline'

const [url, username, verb, arg] = process.argv.slice(2)
const client = await mqtt.connectAsync(url, {
  username, password: 'secret',
  clientId: process.env.DEVICE ?? 'mqttjs-' + verb,
  clean: verb === 'send',
  protocolVersion: Number(process.env.MQTT_VERSION ?? 5),
  rejectUnauthorized: false,
  connectTimeout: 60000,
  properties: Number(process.env.MQTT_VERSION ?? 5) === 5 ? { sessionExpiryInterval: 3600 } : undefined,
})
if (verb === 'send') {
  for await (const line of createInterface({ input: process.stdin })) {
    await client.publishAsync('im/to/' + arg, Buffer.from(line, 'base64'), { qos: 1 })
    console.log('stored')
  }
  await client.endAsync()
} else {
  let left = Number(arg)
  client.on('message', async (topic, payload) => {
    console.log(payload.toString('base64'))
    if (--left === 0) setImmediate(() => client.end())
  })
  await client.subscribeAsync('im/inbox/#', { qos: 1 })
}
