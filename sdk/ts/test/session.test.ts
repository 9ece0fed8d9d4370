// What a session does that no dialogue shows.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { capDevices } from '../src/codec/fields.js';
import { decode, encode, type Frame, Splitter } from '../src/codec/frame.js';
import { Pace } from '../src/pace.js';
import { Session, type SessionEvents } from '../src/session.js';
import type { Entry } from '../src/store/store.js';
import type { End } from '../src/way.js';

const entry = (more: Partial<Entry> = {}): Entry => ({ id: 'm1', to: 'bob', type: '', data: new Uint8Array(0), urgency: 'normal', expires: 0, attrs: [], ...more });

/** A session that has been welcomed, at the time 0. */
class Stand {
  readonly told: string[] = [];
  readonly session: Session;
  end: End | undefined;

  constructor(maxFrame = 1 << 20, interval = 60_000) {
    const events = {
      refused: (e: Entry, code: string) => this.told.push(`refused ${e.id} ${code}`),
      survived: (silence: number) => this.told.push(`survived ${silence}`),
      doubted: (yes: boolean) => this.told.push(`doubted ${yes}`),
      ended: (end: End) => (this.end = end),
    };
    this.session = new Session(
      { hello: { user: 'alice', password: 'secret', caps: capDevices }, maxFrame: 1 << 20, pace: new Pace() },
      new Proxy({} as SessionEvents, { get: (_, name) => events[name as keyof typeof events] ?? (() => {}) }),
    );
    this.session.open(0);
    this.hear({ type: 'welcome', major: 1, minor: 0, address: 'alice@localhost', caps: capDevices, interval, maxFrame, inflight: 100, peers: 8 }, 0);
    this.said();
  }

  hear(f: Frame, now: number): void {
    this.session.receive(encode(f).slice(), now);
  }

  said(): string[] {
    const out = this.session.output();
    const s = new Splitter(1 << 24);
    if (out) s.push(out);
    const all: string[] = [];
    for (let raw = s.next(); raw; raw = s.next()) all.push(decode(raw).type);
    return all;
  }
}

test('a message is as large as it is, and not as it might be', () => {
  const max = 40_000;
  const s = new Stand(max);
  s.session.send(entry({ attrs: [['note', 'x'.repeat(30_000)]] }), 0);
  assert.deepEqual([s.said(), s.told], [['send'], []]);
  s.session.send(entry({ attrs: [['note', 'ä'.repeat(30_000)]] }), 0);
  assert.deepEqual([s.said(), s.told], [[], ['refused m1 too-large']]);
});

test('a question that is not answered is followed by a heartbeat', () => {
  const s = new Stand();
  assert.ok(s.session.devices('', 1000));
  assert.deepEqual(s.said(), ['devices']);
  assert.equal(s.session.deadline, 6000);
  s.session.tick(6000);
  assert.deepEqual(s.said(), ['ping']);
  s.hear({ type: 'pong', payload: new Uint8Array(0) }, 6100);
  s.hear({ type: 'devicelist', devices: [] }, 6200);
  assert.equal(s.session.deadline, 66_000, 'an interval after our last byte');
});

test('an answer that has come is read before a late timer gives the connection up', () => {
  const s = new Stand();
  s.session.tick(60_000);
  assert.deepEqual([s.said(), s.session.deadline], [['ping'], 60_500]);
  s.session.tick(75_000); // the page was busy for five seconds, and PONG waits behind this timer
  const end = () => s.end?.text;
  assert.deepEqual([end(), s.session.deadline], [undefined, 76_000]);
  s.hear({ type: 'pong', payload: new Uint8Array(0) }, 75_001);
  s.session.tick(135_001);
  s.session.tick(180_000);
  assert.equal(end(), undefined);
  s.session.tick(182_000); // but once only
  assert.equal(end(), 'a heartbeat was not answered');
});

test('only a silence as long as it was meant to be is a verdict on the network', () => {
  for (const [at, verdict] of [[60_000, 60_000], [65_000, 60_000], [67_000, undefined], [3660_000, undefined]] as const) {
    const s = new Stand();
    s.session.tick(at);
    s.session.tick(at + 500);
    s.session.tick(at + 1500);
    assert.equal(s.end?.silence, verdict, `after ${at}`);
  }
  const s = new Stand();
  s.session.tick(3660_000);
  s.hear({ type: 'pong', payload: new Uint8Array(0) }, 3660_100);
  assert.deepEqual(s.told, ['survived 60000']);
});

test('an answer that is overdue raises doubt, which it ends when it comes', () => {
  const s = new Stand();
  s.session.tick(60_000);
  assert.deepEqual([s.said(), s.session.deadline], [['ping'], 60_500]);
  s.session.tick(60_500);
  assert.deepEqual([s.told, s.session.deadline], [['doubted true'], 61_500]);
  s.hear({ type: 'pong', payload: new Uint8Array(0) }, 61_000);
  assert.deepEqual(s.told, ['doubted true', 'doubted false', 'survived 60000']);
  s.session.tick(120_000); // it has taken a second, and may take that again
  assert.equal(s.session.deadline, 121_125);
  s.session.tick(121_125);
  s.session.tick(122_250);
  assert.equal(s.end?.text, 'a heartbeat was not answered');
});

test('when an answer is overdue, and when it does not come any more', () => {
  for (const [took, late, doubt, dead] of [
    [[], 0, 500, 1500], [[20], 0, 500, 1500], [[400], 0, 500, 1350], [[400, 400, 400, 400], 0, 500, 1350], [[1200], 0, 1500, 3000],
    [[20, 1020], 0, 1148.75, 2297.5], [[20], 1, 500, 3000], [[20], 40, 500, 10_000], [[5000], 0, 6250, 10_000], [[3600_000], 0, 12_500, 10_000],
  ] as const) {
    const p = new Pace();
    for (const d of took) p.answered(d);
    p.late = late;
    assert.deepEqual([p.doubt, p.dead], [doubt, dead], `${took}, ${late}`);
  }
});
