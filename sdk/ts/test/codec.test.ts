import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { deflateRawSync } from 'node:zlib';

import { ProtocolError, Reader, Writer } from '../src/codec/bytes.js';
import { closeWords, refusedWords, urgencyWords } from '../src/codec/codes.js';
import { decode, encode, type Frame, next, Splitter } from '../src/codec/frame.js';
import { inflate } from '../src/codec/inflate.js';
import { newMsg, newSend } from '../src/codec/message.js';
import { type Delivered, MsgReader, SendWriter } from '../src/codec/stream.js';
import { format, hex } from '../src/codec/text.js';
import type { EndCode, RefusedCode } from '../src/types.js';
import { testdata } from './support/paths.js';
import { parse, unhex } from './support/parse.js';
import { random } from './support/random.js';
import { MsgWriter, SendReader } from './support/server.js';

interface Vectors {
  frames: { text: string; hex: string }[];
  malformed: { hex: string; why: string }[];
  messages: (Partial<Omit<Delivered, 'body' | 'seq'>> & { seq: number; type?: string; body64: string | null; hex: string })[];
  deflated: { form: string; size: number; hex: string; body64?: string }[];
  sends: { to: string; id: string; body64: string; hex: string }[];
}

const vectors = JSON.parse(readFileSync(join(testdata, 'vectors.json'), 'utf8')) as Vectors;

function whole(bytes: Uint8Array): { frame: Frame; ack: number } {
  const n = next(bytes, 0, 1 << 21);
  assert.ok(n, 'the frame is not complete');
  assert.equal(n.size, bytes.length);
  return { frame: decode(n.raw), ack: n.raw.ack };
}

const secret = /token=eyJ|password=secret/;

for (const v of vectors.frames) {
  test(`vector ${v.text}`, () => {
    const { frame, ack } = parse(v.text);
    assert.equal(hex(encode(frame, ack)), v.hex);
    const d = whole(unhex(v.hex));
    assert.equal(hex(encode(d.frame, d.ack)), v.hex);
    if (!secret.test(v.text)) assert.equal(format(d.frame, d.ack), v.text);
  });
}

for (const v of vectors.malformed) {
  test(`malformed: ${v.why} (${v.hex})`, () => {
    assert.throws(() => {
      const n = next(unhex(v.hex), 0, 1 << 20);
      assert.ok(n, 'not complete');
      decode(n.raw);
    }, ProtocolError);
  });
}

test('vectors of deliveries, both ways', () => {
  const r = new MsgReader(300, 1795384800000);
  const w = new MsgWriter(300, 1795384800000);
  for (const v of vectors.messages) {
    const want: Delivered = {
      seq: v.seq, prev: v.prev ?? 0, id: v.id ?? '', from: v.from ?? '', device: v.device ?? '', to: v.to ?? '', time: v.time ?? 0,
      expires: v.expires ?? 0, media: v.type ?? '', urgency: v.urgency ?? 'normal', attrs: v.attrs ?? [], left: v.left ?? 0,
      body: Uint8Array.from(v.left ? [] : Buffer.from(v.body64 ?? '', 'base64')),
    };
    const { frame } = whole(unhex(v.hex));
    assert.ok(frame.type === 'msg');
    const got = r.read(frame);
    assert.deepEqual({ ...got, body: Uint8Array.from(got.body) }, want);
    assert.equal(hex(encode(w.write(want))), v.hex);
  }
});

test('vectors of sends, both ways', () => {
  const w = new SendWriter('k3', 2);
  const r = new SendReader('k3');
  for (const v of vectors.sends) {
    const body = Uint8Array.from(Buffer.from(v.body64, 'base64'));
    assert.equal(hex(encode({ ...newSend(w.to(v.to)), id: w.id(v.id), body })), v.hex);
    const { frame } = whole(unhex(v.hex));
    assert.ok(frame.type === 'send');
    assert.deepEqual([r.to(frame.to), r.id(frame.id), Buffer.from(frame.body).toString('base64')], [v.to, v.id, v.body64]);
  }
});

for (const v of vectors.deflated) {
  test(`deflated ${v.form}`, () => {
    if (v.body64 === undefined) assert.throws(() => inflate(unhex(v.hex), v.size), ProtocolError);
    else assert.equal(Buffer.from(inflate(unhex(v.hex), v.size)).toString('base64'), v.body64);
  });
}

test('inflate undoes what zlib does, and refuses what is spoiled', () => {
  const r = random(4);
  for (let i = 0; i < 300; i++) {
    const words = Array.from({ length: 1 + r.int(30) }, () => r.text() + r.int(100));
    const body = Buffer.from(Array.from({ length: r.int(400) }, () => words[r.int(words.length)]).join(' '));
    const p = deflateRawSync(body, { level: r.int(10), strategy: r.int(5) });
    assert.deepEqual(Buffer.from(inflate(p, body.length)), body);
    const bad = r.spoil(Uint8Array.from(p));
    try {
      inflate(bad, body.length);
    } catch (e) {
      assert.ok(e instanceof ProtocolError, String(e));
    }
  }
});

test('a stream in pieces of any size', () => {
  const all = Buffer.concat(vectors.frames.map((v) => unhex(v.hex)));
  for (const size of [1, 2, 3, 7, 64, all.length]) {
    const s = new Splitter(1 << 20);
    const got: string[] = [];
    for (let i = 0; i < all.length; i += size) {
      s.push(Uint8Array.from(all.subarray(i, i + size)));
      for (let raw = s.next(); raw; raw = s.next()) got.push(hex(encode(decode(raw), raw.ack)));
    }
    assert.deepEqual(got, vectors.frames.map((v) => v.hex));
  }
});

test('a frame that is too long is known by its first bytes', () => {
  const s = new Splitter(1000);
  s.push(unhex('60e907'));
  assert.throws(() => s.next(), (e: ProtocolError) => e.code === 'frame-too-long');
});

test('integers', () => {
  for (const v of [0, 1, 127, 128, 16383, 16384, 2 ** 31, 2 ** 32, 2 ** 40 + 7, 2 ** 53 - 1]) {
    const w = new Writer();
    w.uvarint(v);
    assert.equal(new Reader(w.done()).uvarint(), v);
    if (v < 2 ** 52) {
      const w = new Writer();
      w.varint(-v);
      w.varint(v);
      const r = new Reader(w.done());
      assert.equal(r.varint() + 0, -v + 0);
      assert.equal(r.varint(), v);
    }
  }
  assert.throws(() => new Writer().uvarint(2 ** 53), RangeError);
  assert.throws(() => new Writer().uvarint(-1), RangeError);
  assert.throws(() => new Writer().uvarint(0.5), RangeError);
});

test('random frames come back the same', () => {
  const r = random(1);
  for (let i = 0; i < 3000; i++) {
    const f = r.frame();
    const bytes = Uint8Array.from(encode(f, f.type === 'hello' ? 0 : r.int(3)));
    const d = whole(bytes);
    assert.equal(hex(encode(d.frame, d.ack)), hex(bytes));
    const { frame, ack } = parse(format(d.frame, d.ack));
    assert.equal(hex(encode(frame, ack)), hex(bytes), format(d.frame, d.ack));
  }
});

test('random bytes are refused or come back the same', () => {
  const r = random(2);
  let decoded = 0;
  for (let i = 0; i < 30000; i++) {
    // Half of them are frames with a few bytes changed.
    const p = i % 2 ? r.bytes(1 + r.int(40)) : r.spoil(Uint8Array.from(encode(r.frame())));
    try {
      const n = next(p, 0, 1 << 20);
      if (!n) continue;
      const f = decode(n.raw);
      assert.equal(hex(encode(f, n.raw.ack)), hex(p.subarray(0, n.size)));
      format(f);
      decoded++;
    } catch (e) {
      if (!(e instanceof ProtocolError)) throw e;
    }
  }
  assert.ok(decoded > 1000, `only ${decoded} were frames`);
});

test('random conversations mean the same on both sides', () => {
  const r = random(3);
  for (let i = 0; i < 50; i++) {
    const mw = new MsgWriter(7, 1000), mr = new MsgReader(7, 1000);
    const sw = new SendWriter('k', 5), sr = new SendReader('k');
    for (let seq = 8; seq < 200; seq += 1 + r.int(3)) {
      const m: Delivered = {
        ...r.message(), seq, prev: r.int(4) === 0 ? r.int(seq) : mw.place, expires: 0, left: 0,
        from: `user${r.int(100)}@example.org`, to: r.int(3) === 0 ? `to${r.int(9)}` : '',
      };
      assert.deepEqual(mr.read(mw.write(m)), m);
      const to = `user${r.int(20)}`;
      const id = r.int(5) === 0 ? r.text() || 'x' : `k.${1 + r.int(1e9)}`;
      assert.deepEqual([sr.to(sw.to(to)), sr.id(sw.id(id))], [to, id]);
    }
  }
});

test('the reasons that an application may be told are those of the protocol, and more', () => {
  const refused: (RefusedCode | 'unavailable' | 'internal' | '')[] = [...refusedWords]; // it does not compile else
  const closed: (EndCode | '')[] = [...closeWords];
  assert.ok(refused.length > 0 && closed.length > 0);
});

test('a place stays within what a number holds', () => {
  const r = new MsgReader(Number.MAX_SAFE_INTEGER - 5, 0);
  assert.equal(r.trimmed(5), Number.MAX_SAFE_INTEGER);
  assert.throws(() => r.trimmed(1), ProtocolError);
});

test('urgency has four words', () => {
  for (const urgency of urgencyWords) {
    const f = whole(Uint8Array.from(encode({ ...newMsg({ n: 0 }), urgency }))).frame;
    assert.equal(f.type === 'msg' && f.urgency, urgency);
  }
});
