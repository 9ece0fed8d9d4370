// usage: node mqtt_all.mjs URL VERSION CAFILE TAG
//
// Does with MQTT.js what an application does with a broker, and prints a line
// for each thing that went well. VERSION is 4 or 5. The users are alice and bob,
// their password is "secret". TAG keeps the topics and the client identifiers of
// one run apart from those of another.
import assert from 'node:assert'
import { readFileSync } from 'node:fs'
import mqtt from 'mqtt'

const [url, version, cafile, tag] = process.argv.slice(2)
const ca = readFileSync(cafile)

async function connect(name, { user = 'alice', clean = true, will } = {}) {
  const options = {
    username: user, password: 'secret', clientId: tag + name, clean, protocolVersion: Number(version), ca, reconnectPeriod: 0, connectTimeout: 60000,
    properties: version === '5' ? { sessionExpiryInterval: clean ? 0 : 3600 } : undefined,
    will: will && { topic: tag + will, payload: Buffer.from('gone'), qos: 1, retain: false },
    wsOptions: { ca },
  }
  const got = [], waiting = []
  const client = mqtt.connect(url, options)
  client.on('message', (topic, payload, packet) => {
    const m = { topic, payload, qos: packet.qos, retain: packet.retain }
    waiting.length > 0 ? waiting.shift()(m) : got.push(m)
  })
  const present = await new Promise((resolve, reject) => {
    client.once('connect', (connack) => resolve(connack.sessionPresent))
    client.once('error', reject)
  })
  const c = {
    present,
    publish: (topic, payload, qos, retain = false) => client.publishAsync(topic, payload, { qos, retain }),
    async subscribe(filter, qos) {
      const granted = await client.subscribeAsync(filter, { qos })
      assert.equal(granted[0].qos, qos)
      return c
    },
    receive: () => got.length > 0 ? got.shift() : new Promise((resolve) => waiting.push(resolve)),
    // A message that the client sends to itself comes behind what is on the way.
    async nothing() {
      await c.subscribe(tag + 'fence', 1)
      await c.publish(tag + 'fence', '', 1)
      assert.equal((await c.receive()).topic, tag + 'fence')
    },
    bye: () => client.endAsync(),
    // Without DISCONNECT.
    async drop() {
      const closed = new Promise((resolve) => client.once('close', resolve))
      client.stream.destroy()
      await closed
    },
  }
  return c
}

const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i))

const steps = {
  async qos() {
    const sub = await (await connect('sub')).subscribe(tag + 'q/#', 2)
    const pub = await connect('pub', { user: 'bob' })
    for (const qos of [0, 1, 2]) {
      await pub.publish(tag + 'q/' + qos, every, qos)
      const m = await sub.receive()
      assert.deepEqual([m.topic, m.qos, m.retain], [tag + 'q/' + qos, qos, false])
      assert.ok(every.equals(m.payload))
    }
    await sub.bye()
    await pub.bye()
  },
  async retained() {
    const pub = await connect('pub')
    await pub.publish(tag + 'r', 'kept', 1, true)
    let sub = await (await connect('sub', { user: 'bob' })).subscribe(tag + 'r', 1)
    const m = await sub.receive()
    assert.deepEqual([m.payload.toString(), m.retain, m.qos], ['kept', true, 1])
    await pub.publish(tag + 'r', '', 1, true)
    assert.equal((await sub.receive()).payload.length, 0)
    await sub.bye()
    sub = await (await connect('sub', { user: 'bob' })).subscribe(tag + 'r', 1)
    await sub.nothing()
    await sub.bye()
    await pub.bye()
  },
  async will() {
    const sub = await (await connect('sub')).subscribe(tag + 'w', 1)
    await (await connect('dies', { user: 'bob', will: 'w' })).drop()
    assert.equal((await sub.receive()).payload.toString(), 'gone')
    await (await connect('leaves', { user: 'bob', will: 'w' })).bye()
    await sub.nothing()
    await sub.bye()
  },
  async session() {
    let sub = await (await connect('kept', { clean: false })).subscribe(tag + 's', 2)
    assert.equal(sub.present, false)
    await sub.bye()
    const pub = await connect('pub', { user: 'bob' })
    for (let i = 0; i < 20; i++) await pub.publish(tag + 's', String(i), 1 + i % 2)
    sub = await connect('kept', { clean: false })
    assert.equal(sub.present, true)
    const got = { 1: [], 2: [] } // the client hands a QoS 2 message on when it is released
    for (let i = 0; i < 20; i++) {
      const m = await sub.receive()
      got[m.qos].push(Number(m.payload))
    }
    const each = Array.from({ length: 10 }, (_, i) => 2 * i)
    assert.deepEqual(got, { 1: each, 2: each.map((n) => n + 1) })
    await sub.bye()
    sub = await connect('kept', { clean: false })
    await sub.nothing()
    await sub.bye()
    await pub.bye()
  },
  async mailbox() {
    const alice = await connect('phone')
    await alice.publish('im/to/bob', tag, 1)
    let bob = await (await connect('phone', { user: 'bob', clean: false })).subscribe('im/inbox/#', 2)
    for (;;) {
      const m = await bob.receive()
      assert.equal(m.topic, 'im/inbox/alice@localhost')
      if (m.payload.toString() === tag) break
    }
    await bob.bye()
    await alice.publish('im/to/bob', 'later ' + tag, 2)
    bob = await connect('phone', { user: 'bob', clean: false })
    assert.equal((await bob.receive()).payload.toString(), 'later ' + tag)
    await bob.bye()
    await alice.bye()
  },
}

for (const [name, step] of Object.entries(steps)) {
  await step()
  console.log(name)
}
