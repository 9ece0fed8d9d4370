import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Finding, Learner, type Outcome, unknown } from '../src/learn.js';
import { random } from './support/random.js';

const second = 1000, minute = 60_000, day = 24 * 3600_000;
const start = Date.parse('2026-01-01T00:00:00Z');
const finding = (good: number, bad = 0, at = start): Finding => ({ good, bad, at });

/** A NAT that forgets after timeout; loss is the chance that a probe fails although the mapping lives. */
const nat = (timeout: number, loss = 0, rnd = () => 1) => (silence: number): Outcome =>
  silence >= timeout || rnd() < loss ? 'silent' : 'survived';

/** Runs the learner's probes one after another, and returns the time it took. */
function probeAll(l: Learner, idle: (silence: number) => Outcome, now = start): number {
  for (let i = 0; i < 1000; i++) {
    const d = l.probe();
    if (d === undefined) return now;
    now += d;
    l.ended(d, idle(d), now);
  }
  throw new Error('probes without end');
}

const cold = () => new Learner(unknown(), unknown(), start);

test('finds the timeout', () => {
  for (let timeout = 16 * second; timeout < 30 * minute; timeout *= 1.05) {
    // Six probes find the interval, a seventh confirms the last failure.
    const l = cold();
    let now = start;
    for (let d = l.probe(); d !== undefined && l.probes < 6; d = l.probe()) l.ended(d, nat(timeout)(d), (now += d));
    const found = l.interval;
    assert.ok(found < timeout && found >= 0.9 * timeout, `timeout ${timeout}: every ${found}`);
    probeAll(l, nat(timeout), now);
    assert.ok(l.probes <= 7 && l.interval === found, `timeout ${timeout}: ${l.probes} probes, then every ${l.interval}`);
  }
});

test('the shortest and the longest', () => {
  const short = cold();
  probeAll(short, nat(10 * second)); // below the minimum: nothing can be done
  assert.equal(short.interval, 15 * second);
  const long = cold();
  probeAll(long, nat(day));
  assert.ok(long.interval >= 27 * minute && long.interval <= 30 * minute);
});

test('a prior needs one probe', () => {
  const first = cold();
  probeAll(first, nat(300 * second));
  const next = new Learner(unknown(), first.finding, start);
  probeAll(next, nat(300 * second));
  assert.equal(next.probes, 1);
  assert.equal(next.interval, first.interval);
  assert.equal(new Learner(next.finding, unknown(), start).probe(), undefined);
});

test('a wrong prior is corrected', () => {
  let l = new Learner(unknown(), finding(20 * minute, 21 * minute), start);
  probeAll(l, nat(minute));
  assert.ok(l.interval < minute && l.interval >= 54 * second);
  l = new Learner(unknown(), finding(20 * second, 21 * second), start);
  probeAll(l, nat(minute));
  assert.ok(l.interval < minute);
});

test('one failure is no verdict', () => {
  const l = cold();
  const d = l.probe()!;
  l.ended(d, 'silent', start);
  assert.equal(l.finding.bad, 0);
  // All shorter ones survive, so that the failure itself is tried again.
  let next = l.probe()!;
  assert.ok(next < d);
  for (; next < d; next = l.probe()!) l.ended(next, 'survived', start);
  assert.equal(next, d);
  l.ended(d, 'survived', start);
  for (let i = 0; i < 10; i++) l.ended(second, 'unrelated', start);
  assert.deepEqual(l.finding, finding(d));
});

test('loss does not mislead', () => {
  const rnd = random(1).unit;
  let low = 0;
  for (let i = 0; i < 500; i++) {
    const l = cold();
    probeAll(l, nat(120 * second, 0.1, rnd));
    assert.ok(l.interval < 120 * second);
    if (l.interval < 100 * second) low++;
  }
  assert.ok(low <= 50, `at 10 % loss ${low} of 500 settled too low`); // it takes two of seven probes
});

test('a network that has become worse is noticed', () => {
  const l = cold();
  probeAll(l, nat(10 * minute));
  const beat = l.interval;
  l.ended(beat, 'silent', start);
  assert.equal(l.interval, beat);
  l.ended(beat, 'silent', start);
  assert.ok(l.interval < beat);
  probeAll(l, nat(minute));
  assert.ok(l.interval < minute && l.interval >= 54 * second);
});

test('findings grow old', () => {
  const l = cold();
  let now = probeAll(l, nat(minute));
  assert.equal(l.stale(now + 3600_000), false);
  now += 8 * day;
  assert.equal(l.stale(now), true);
  probeAll(l, nat(minute), now);
  assert.ok(l.interval < minute && l.interval >= 54 * second);
  assert.equal(new Learner(finding(50 * second, 53 * second), unknown(), start + 8 * day).probe(), 50 * second);
});

test('whatever happens, the interval stays within bounds', () => {
  const r = random(7);
  for (let i = 0; i < 300; i++) {
    const l = new Learner(unknown(), finding(r.int(40 * minute)), start);
    for (let j = 0; j < 60; j++) {
      const d = l.probe();
      if (d !== undefined) assert.ok(d > 0 && d <= 30 * minute, `probe of ${d}`);
      l.ended(d ?? l.interval, (['survived', 'silent', 'unrelated'] as const)[r.int(3)]!, start);
      assert.ok(l.interval >= 15 * second && l.interval <= 30 * minute, `every ${l.interval}`);
    }
  }
});
