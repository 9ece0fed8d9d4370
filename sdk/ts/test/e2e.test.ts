// The SDK in Node against the real server.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { type Client, ClosedError, connect, fileStore, type Message, type Options, RefusedError } from '../src/node/index.js';
import { realClock } from '../src/clock.js';
import { LinkWay } from '../src/linkway.js';
import { tcpDial } from '../src/node/tcp.js';
import { here } from './support/paths.js';
import { patience, Posthouse, Proxy, withoutServer } from './support/posthouse.js';

/** Collects what a client receives, and lets a test wait for it. */
class Reader {
  readonly bodies: string[] = [];
  readonly messages: Message[] = [];
  #changed: (() => void)[] = [];

  constructor(c: Client) {
    c.onMessage((m) => {
      this.messages.push(m);
      this.bodies.push(m.body);
      for (const f of this.#changed.splice(0)) f();
    });
  }

  async until(n: number): Promise<string[]> {
    const late = Date.now() + patience;
    while (this.bodies.length < n) {
      assert.ok(Date.now() < late, `received ${this.bodies.length} of ${n}`);
      await Promise.race([new Promise<void>((r) => this.#changed.push(r)), new Promise<void>((r) => setTimeout(r, 5000).unref())]);
    }
    return this.bodies;
  }
}

/** Waits for a state, and returns it: the client may be in another by then. */
function until(c: Client, ok: (s: Client['state']) => boolean): Promise<Client['state']> {
  return new Promise((resolve, reject) => {
    if (ok(c.state)) return resolve(c.state);
    const timer = setTimeout(() => reject(new Error(`still ${JSON.stringify(c.state)}`)), patience);
    const off = c.on('state', (s) => {
      if (!ok(s)) return;
      clearTimeout(timer);
      off();
      resolve(s);
    });
  });
}

const online = (way?: string) => (s: Client['state']) => s.state === 'online' && (way === undefined || s.way === way);

describe('against the real server', { skip: withoutServer, timeout: 5 * patience }, () => {
  let server: Posthouse;
  const dir = mkdtempSync(join(tmpdir(), 'posthouse-store-'));
  const clients: Client[] = [];
  const proxies: Proxy[] = [];
  let device = 0;

  before(async () => {
    server = await Posthouse.open();
  });
  after(async () => {
    for (const c of clients) await c.close();
    for (const p of proxies) await p.close();
    await server.close();
    rmSync(dir, { recursive: true });
  });

  const client = (user: string, o: Partial<Options>): Client => {
    const c = connect({ url: `http://127.0.0.1:${server.http}`, user, password: 'secret', device: `d${++device}`, ...o });
    clients.push(c);
    return c;
  };
  const proxy = async (): Promise<Proxy> => {
    const p = await Proxy.open(server.http);
    proxies.push(p);
    return p;
  };
  /** A device that has read everything that there was. */
  const fresh = async (user: string, o: Partial<Options>): Promise<{ c: Client; r: Reader }> => {
    const c = client(user, o);
    const r = new Reader(c);
    await until(c, online());
    const mark = `mark ${device}`;
    const sender = client(user, {});
    await sender.send({ to: user, body: mark });
    await sender.close();
    for (let n = 1; r.bodies.at(-1) !== mark; n++) await r.until(n);
    r.bodies.length = r.messages.length = 0;
    return { c, r };
  };
  const noWebSocket = class {
    constructor() {
      throw new Error('forbidden');
    }
  } as unknown as NonNullable<Options['WebSocket']>;
  const ways: Record<string, () => Partial<Options>> = {
    websocket: () => ({}),
    tcp: () => ({ url: `link://127.0.0.1:${server.link}` }),
    poll: () => ({ WebSocket: noWebSocket }),
  };

  test('a word of the moment is said by every way', async () => {
    const bob = client('bob', {});
    const heard: string[] = [];
    bob.on('signal', (s) => heard.push(`${s.from}/${s.device} ${s.kind} ${[...s.data].join()}`));
    await until(bob, online('websocket'));
    for (const [way, options] of Object.entries(ways)) {
      const alice = client('alice', { ...options(), device: way });
      await until(alice, online(way));
      const late = Date.now() + patience;
      while (!alice.signal('bob', 'x-poke', Uint8Array.of(0, 255))) {
        assert.ok(Date.now() < late);
        await new Promise((r) => setTimeout(r, 5)); // online is told a moment before the way is open
      }
      while (heard.at(-1) !== `alice@localhost/${way} x-poke 0,255`) {
        assert.ok(Date.now() < late, `by ${way}: ${heard.join('; ')}`);
        await new Promise((r) => setTimeout(r, 5));
      }
      assert.equal(alice.signal('bob', 'online'), way !== 'poll');
      await alice.close();
    }
  });

  for (const [way, options] of Object.entries(ways)) {
    test(`send and receive by ${way}`, async () => {
      const { c: bob, r } = await fresh('bob', options());
      const alice = client('alice', options());
      const receipt = await alice.send({ to: 'bob', body: 'héllo' });
      assert.ok(receipt.seq > 0 && !receipt.duplicate);
      const again = await alice.send({ to: 'bob', body: 'héllo', id: receipt.id });
      assert.deepEqual(again, { ...receipt, duplicate: true });
      await alice.send({
        to: 'bob@localhost', data: Uint8Array.of(0, 255, 10), type: 'application/cbor', urgency: 'high', expires: 3600_000, attrs: [['zone', 'b'], ['lang', 'fr'], ['zone', 'a']],
      });
      await assert.rejects(alice.send({ to: 'nobody', body: 'x' }), (e: RefusedError) => e.code === 'unknown-recipient');
      await assert.rejects(alice.send({ to: 'bob', data: new Uint8Array(5 << 20) }), (e: RefusedError) => e.code === 'too-large');
      await assert.rejects(alice.send({ to: 'bob', body: 'other', id: receipt.id }), (e: RefusedError) => e.code === 'conflict');
      await alice.send({ to: 'bob', body: 'last' });
      assert.deepEqual(await r.until(3), ['héllo', '\0\ufffd\n', 'last']);
      const [m, n] = r.messages;
      assert.deepEqual([m!.id, m!.from, m!.to, m!.type, m!.seq], [receipt.id, 'alice@localhost', 'bob@localhost', 'text/plain; charset=utf-8', receipt.seq]);
      assert.deepEqual([n!.type, n!.urgency, n!.attrs, [...n!.data]], ['application/cbor', 'high', [['zone', 'b'], ['lang', 'fr'], ['zone', 'a']], [0, 255, 10]]);
      assert.deepEqual([n!.attr('zone'), n!.attr('none')], ['b', undefined]);
      assert.ok(n!.expires!.getTime() > n!.time.getTime());
      assert.equal(bob.state.way, way);
      assert.equal(alice.address, 'alice@localhost');
      await alice.close();
      await assert.rejects(alice.send({ to: 'bob', body: 'x' }), ClosedError);
    });

    test(`a wrong password by ${way}`, async () => {
      const c = client('alice', { ...options(), password: 'wrong' });
      const sent = assert.rejects(c.send({ to: 'bob', body: 'x' }), (e: ClosedError) => e.code === 'denied');
      await until(c, (s) => s.state === 'closed');
      assert.equal(c.state.reason?.code, 'denied');
      await sent;
    });
  }

  test('everything arrives once, in order, over a connection that breaks all the time', async () => {
    const p = await proxy();
    const { r } = await fresh('bob', { url: `ws://127.0.0.1:${p.port}/link` });
    const alice = client('alice', { url: `ws://127.0.0.1:${p.port}/link` });
    let breaks = 0;
    alice.on('state', (s) => s.state === 'waiting' && breaks++);
    p.budget = 2000;
    const n = 300;
    const sent: Promise<unknown>[] = [];
    for (let i = 0; i < n; i++) {
      sent.push(alice.send({ to: 'bob', body: `${i}` }));
      if (i % 30 === 29) {
        await sent.at(-1);
        p.cut();
      }
    }
    await Promise.all(sent);
    assert.ok(breaks >= 8, `only ${breaks} breaks`);
    assert.deepEqual(await r.until(n), Array.from({ length: n }, (_, i) => `${i}`));
  });

  test('kill -9 of the server, and a restart', async () => {
    const { c: bob, r } = await fresh('bob', {});
    const alice = client('alice', {});
    await until(alice, online());
    const body = Array.from({ length: 100 }, (_, i) => `k${i}`);
    const sent = body.slice(0, 50).map((b) => alice.send({ to: 'bob', body: b }));
    await sent[20];
    await server.kill();
    await until(alice, (s) => s.state === 'waiting');
    const offline = body.slice(50).map((b) => alice.send({ to: 'bob', body: b }));
    await server.start();
    await Promise.all([...sent, ...offline]);
    assert.deepEqual(await r.until(100), body);
    assert.equal(alice.pending, 0);
    await until(bob, online());
  });

  test('a drain: the server says when to come back', async () => {
    const c = client('alice', {});
    await until(c, online());
    const waits = until(c, (s) => s.state === 'waiting');
    await server.kill('SIGTERM');
    assert.equal((await waits).reason?.code, 'draining');
    await server.start();
    c.networkChanged(); // the application may know better
    await until(c, online());
  });

  test('sent by a program that was killed', async () => {
    const store = join(dir, 'killed.jsonl');
    const { r } = await fresh('bob', {});
    const program = `
      import { connect, fileStore } from ${JSON.stringify(pathToFileURL(join(here, 'build', 'src', 'node', 'index.js')).href)};
      const c = connect({ url: 'ws://127.0.0.1:1/link', user: 'alice', password: 'secret', device: 'killed', store: fileStore(${JSON.stringify(store)}) });
      let queued = 0;
      c.on('queued', () => ++queued === 3 && console.log('queued'));
      for (const body of ['one', 'two', 'three']) c.send({ to: 'bob', body });
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    const c = client('alice', { device: 'killed', store: fileStore(store) });
    assert.deepEqual(await r.until(3), ['one', 'two', 'three']);
    await c.close();
  });

  test('a restart of the reader: nothing twice, nothing missing', async () => {
    const store = join(dir, 'reader.jsonl');
    const first = await fresh('bob', { device: 'reader', store: fileStore(store) });
    const alice = client('alice', {});
    await alice.send({ to: 'bob', body: 'one' });
    await first.r.until(1);
    // The second is being handled when the program ends.
    let begun = () => {};
    const handling = new Promise<void>((r) => (begun = r));
    first.c.onMessage(() => {
      begun();
      return new Promise(() => {});
    });
    await alice.send({ to: 'bob', body: 'two' });
    await handling;
    await alice.send({ to: 'bob', body: 'three' });
    await first.c.close();
    const second = client('bob', { device: 'reader', store: fileStore(store) });
    const r = new Reader(second);
    assert.deepEqual(await r.until(2), ['two', 'three']);
    await second.close();
    // By another way from the same place.
    await alice.send({ to: 'bob', body: 'four' });
    const third = client('bob', { device: 'reader', store: fileStore(store), WebSocket: noWebSocket });
    assert.deepEqual(await new Reader(third).until(1), ['four']);
    assert.equal(third.state.way, 'poll');
  });

  test('behind a proxy that refuses WebSockets, and out of it again', async () => {
    const p = await proxy();
    p.noUpgrade = true;
    const url = `http://127.0.0.1:${p.port}`;
    const { c: bob, r } = await fresh('bob', { url });
    assert.equal(bob.state.way, 'poll');
    const alice = client('alice', { url });
    const n = 60;
    for (let i = 0; i < n; i++) {
      await alice.send({ to: 'bob', body: `${i}` });
      if (i === 20) {
        await r.until(15);
        p.noUpgrade = false;
        bob.networkChanged();
        alice.networkChanged();
      }
      if (i === 40) {
        await until(bob, online('websocket'));
        p.noUpgrade = true;
        p.cut();
      }
    }
    assert.deepEqual(await r.until(n), Array.from({ length: n }, (_, i) => `${i}`));
    await until(bob, online('poll'));
  });

  test('back to the WebSocket by itself', async () => {
    const p = await proxy();
    p.noUpgrade = true;
    const c = client('alice', { url: `http://127.0.0.1:${p.port}` });
    await until(c, online('poll'));
    p.noUpgrade = false;
    await until(c, online('websocket'));
  });

  test('a probe is silent and then answered, beside the live connection', async () => {
    const { c: live, r } = await fresh('bob', { device: 'probed', network: 'a carrier' });
    const way = new LinkWay('tcp', { clock: realClock, prefix: 'k', agent: 'test', maxMessage: 1 << 20, dial: tcpDial('127.0.0.1', server.link, false) });
    const login = { user: 'bob', password: 'secret', device: 'probed', network: 'a carrier' };
    const how = await new Promise((ended) => way.probe(login, 1200, { ended, trace: () => {} }));
    assert.equal(how, 'survived');
    assert.equal(live.state.state, 'online');
    await live.send({ to: 'bob', body: 'still here' });
    await r.until(1);
  });

  test('the same device elsewhere', async () => {
    const first = client('alice', { device: 'one' });
    await until(first, online());
    const second = client('alice', { device: 'one' });
    await until(first, (s) => s.state === 'closed');
    assert.equal(first.state.reason?.code, 'replaced');
    await until(second, online());
  });
});
