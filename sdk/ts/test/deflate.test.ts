// Deflating on the way out: what is worth it, in order, and never waited for
// without end.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { inflate } from '../src/codec/inflate.js';
import { capDeflate } from '../src/codec/fields.js';
import { decode, encode, type Frame, Splitter } from '../src/codec/frame.js';
import { type Deflate, pays, platformDeflate, worthDeflating } from '../src/deflate.js';
import { LinkWay } from '../src/linkway.js';
import type { Entry } from '../src/store/store.js';
import type { CarrierEvents, Owner } from '../src/way.js';
import { settle, VirtualClock } from './support/time.js';

const bytes = (s: string) => new TextEncoder().encode(s);
const prose = bytes('the quick brown fox jumps over the lazy dog and '.repeat(20));

test('what the platform deflates inflates to the same', async () => {
  const deflate = platformDeflate();
  assert.ok(deflate, 'this Node has no deflate-raw');
  for (const n of [256, 1000, 64 << 10]) {
    const data = Uint8Array.from({ length: n }, (_, i) => 97 + ((((i * i) ^ (i >> 3)) % 251) % 13)); // not so regular as to be beyond the bound
    const packed = await deflate(data);
    assert.ok(pays(data, packed), `${n} bytes became ${packed.length}`);
    assert.deepEqual(inflate(packed, n), data);
  }
});

test('without deflate-raw there is nothing', () => {
  const there = globalThis.CompressionStream;
  try {
    for (const instead of [undefined, class { constructor() { throw new TypeError('only gzip'); } }]) {
      globalThis.CompressionStream = instead as unknown as typeof CompressionStream;
      assert.equal(platformDeflate(), undefined);
    }
  } finally {
    globalThis.CompressionStream = there;
  }
});

test('what is worth it', () => {
  for (const media of ['', 'text/plain; charset=utf-8', 'TEXT/HTML', 'application/json', 'application/xml', 'application/ld+json', 'image/svg+xml']) {
    assert.ok(worthDeflating(prose, media), media);
  }
  for (const media of ['image/png', 'application/octet-stream', 'application/zip', 'application/jsonish']) assert.ok(!worthDeflating(prose, media), media);
  assert.ok(!worthDeflating(prose.slice(0, 255), ''));
  assert.ok(!worthDeflating(new Uint8Array((64 << 10) + 1), ''));
  assert.ok(pays(new Uint8Array(256), new Uint8Array(224)));
  assert.ok(!pays(new Uint8Array(256), new Uint8Array(225)));
  assert.ok(!pays(new Uint8Array(1000), new Uint8Array(31)), 'beyond what the other side takes');
});

/** A connection to a server that welcomes, with what it is said and what it is given to send. */
function connection(deflate: Deflate) {
  const clock = new VirtualClock();
  const splitter = new Splitter(1 << 20);
  const said: Frame[] = [];
  let on: CarrierEvents | undefined;
  let queue: Entry[] = [];
  const way = new LinkWay('tcp', {
    clock, prefix: 'k', agent: '', maxMessage: 1 << 20, deflate,
    dial: (events) => {
      on = events;
      queueMicrotask(() => events.open());
      return {
        send: (b) => {
          splitter.push(b.slice());
          for (let raw = splitter.next(); raw; raw = splitter.next()) said.push(decode(raw));
        },
        close: () => {},
      };
    },
  });
  const owner = new Proxy({} as Owner, { get: (_, name) => (name === 'take' ? () => queue.shift() : () => undefined) });
  const c = way.open({ user: 'alice', password: 'secret' }, owner);
  const welcome = () => on!.data(encode({ type: 'welcome', major: 1, minor: 0, address: 'alice@localhost', caps: capDeflate, inflight: 100, peers: 4, interval: 60_000, maxFrame: 1 << 20 }));
  const entry = (id: string, data: Uint8Array): Entry => ({ id, to: 'bob', data, type: '', urgency: 'normal', attrs: [], expires: 0 });
  const give = (...entries: Entry[]) => {
    queue = entries;
    c.work();
  };
  const sends = () => said.filter((f) => f.type === 'send').map((f) => `${String(f.id)} ${f.deflated > 0 ? 'deflated' : 'plain'}`);
  return { c, welcome, entry, give, sends };
}

test('a body that takes its time holds up what is behind it', async () => {
  const waiting: (() => void)[] = [];
  const { c, welcome, entry, give, sends } = connection((data) => new Promise((resolve) => waiting.push(() => resolve(data.slice(0, 100)))));
  await settle();
  welcome();
  give(entry('a', bytes('short')), entry('b', prose), entry('c', bytes('short')), entry('d', prose), entry('e', bytes('short')));
  await settle();
  assert.deepEqual(sends(), ['a plain']);
  waiting[1]!(); // both are under way, and the second is ready first
  await settle();
  assert.deepEqual(sends(), ['a plain']);
  waiting[0]!();
  await settle();
  assert.deepEqual(sends(), ['a plain', 'b deflated', 'c plain', 'd deflated', 'e plain']);
  c.drop();
});

test('what is being deflated when the connection ends is given back, and when it is closed goes as it is', async () => {
  const never: Deflate = () => new Promise(() => {});
  const one = connection(never);
  await settle();
  one.welcome();
  one.give(one.entry('a', bytes('short')), one.entry('b', prose), one.entry('c', bytes('short')));
  await settle();
  assert.deepEqual(one.c.drop().map((e) => e.id), ['a', 'b', 'c']);
  const two = connection(never);
  await settle();
  two.welcome();
  two.give(two.entry('a', prose), two.entry('b', bytes('short')));
  await two.c.close();
  assert.deepEqual(two.sends(), ['a plain', 'b plain']);
});

test('a deflater that fails or gains nothing is no harm', async () => {
  for (const deflate of [() => Promise.reject(new Error('out of memory')), (data: Uint8Array) => Promise.resolve(data.slice())] as Deflate[]) {
    const { c, welcome, entry, give, sends } = connection(deflate);
    await settle();
    welcome();
    give(entry('a', prose), entry('b', bytes('short')));
    await settle();
    assert.deepEqual(sends(), ['a plain', 'b plain']);
    c.drop();
  }
});
