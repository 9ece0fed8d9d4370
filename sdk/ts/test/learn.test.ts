// What the learner does. The traces are the Go SDK's, whose keepalive/learn
// says what may stand in a line: both do the same, step by step.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { duration } from '../src/codec/text.js';
import { type Bounds, type Finding, Learner, type Outcome, unknown } from '../src/learn.js';
import { millis } from './support/parse.js';
import { project } from './support/paths.js';
import { random } from './support/random.js';

const second = 1000, minute = 60_000;
const start = Date.parse('2026-01-01T00:00:00Z');

/** Plays a trace. */
class Player {
  #l: Learner | undefined;
  #now = start;
  #forgets = 0; // after so long
  #fails: Outcome = 'silent';

  /** Plays an event, and returns how things are then. */
  play(event: string): string {
    const [verb = '', ...rest] = event.split(' ');
    switch (verb) {
      case 'learner':
        return this.#begin(rest);
      case 'stale':
        this.#l!.stale(this.#now);
        return this.#state;
      case '~':
        this.#now += millis(rest[0]!);
        return '';
      case 'nat':
        this.#forgets = millis(rest[0]!);
        this.#fails = (rest[1] ?? 'silent') as Outcome;
        return '';
      case 'probe':
      case 'beat': {
        const silence = verb === 'beat' ? this.#l!.interval : this.#l!.probe();
        assert.ok(silence !== undefined, 'it asks for none');
        this.#now += silence;
        return this.#end(silence, (rest[0] as Outcome | undefined) ?? (silence < this.#forgets ? 'survived' : this.#fails));
      }
    }
    return this.#end(millis(rest[0]!), verb as Outcome);
  }

  #begin(words: string[]): string {
    const c: Partial<Bounds> = {};
    let own = unknown(), prior = unknown();
    for (const w of words) {
      const [name, value = ''] = w.split('=');
      const [good = 0, bad = 0, age = 0] = value.split(',').map(millis);
      if (name === 'min' || name === 'max') c[name] = good;
      else if (name === 'own') own = { good, bad, at: this.#now - age };
      else prior = { good, bad, at: 0 };
    }
    this.#l = new Learner(own, prior, this.#now, c);
    return this.#state;
  }

  #end(silence: number, how: Outcome): string {
    this.#l!.ended(silence, how, this.#now);
    return `${duration(silence)} ${how}, ${this.#state}`;
  }

  get #state(): string {
    const next = this.#l!.probe();
    const { good, bad, at } = this.#l!.finding;
    return [
      `next ${next === undefined ? '-' : duration(next)} beat ${duration(this.#l!.interval)}`,
      ...(good > 0 ? [`good ${duration(good)}`] : []), ...(bad > 0 ? [`bad ${duration(bad)}`] : []), ...(at > 0 ? [`at ${at}`] : []),
      `judged ${this.#l!.probes}`,
    ].join(' ');
  }
}

const traces = join(project, 'keepalive', 'learn', 'testdata');
for (const file of readdirSync(traces).filter((f) => f.endsWith('.txt'))) {
  test(`trace ${file.replace('.txt', '')}`, () => {
    const p = new Player();
    for (const [i, line] of readFileSync(join(traces, file), 'utf8').split('\n').entries()) {
      const [event = '', want = ''] = line.split(' = ');
      if (event !== '' && event[0] !== '#') assert.equal(p.play(event), want, `line ${i + 1}: ${event}`);
    }
  });
}

const finding = (good: number): Finding => ({ good, bad: 0, at: start });
const cold = () => new Learner(unknown(), unknown(), start);

/** Runs the learner's probes one after another. */
function probeAll(l: Learner, idle: (silence: number) => Outcome): void {
  let now = start;
  for (let i = 0; i < 1000; i++) {
    const d = l.probe();
    if (d === undefined) return;
    now += d;
    l.ended(d, idle(d), now);
  }
  throw new Error('probes without end');
}

test('finds the timeout', () => {
  for (let timeout = 16 * second; timeout < 30 * minute; timeout *= 1.05) {
    for (const how of ['silent', 'reset'] as const) {
      const l = cold();
      probeAll(l, (silence) => (silence < timeout ? 'survived' : how));
      assert.ok(l.interval < timeout && l.interval >= 0.9 * timeout && l.probes <= 7, `timeout ${timeout}: every ${l.interval} after ${l.probes}`);
    }
  }
});

test('loss does not mislead', () => {
  const rnd = random(1).unit;
  let low = 0;
  for (let i = 0; i < 500; i++) {
    const l = cold();
    probeAll(l, (silence) => (silence >= 120 * second || rnd() < 0.1 ? 'silent' : 'survived'));
    assert.ok(l.interval < 120 * second);
    if (l.interval < 100 * second) low++;
  }
  assert.ok(low <= 50, `at 10 % loss ${low} of 500 settled too low`); // it takes two of seven probes
});

test('whatever happens, the interval stays within bounds', () => {
  const r = random(7);
  for (let i = 0; i < 300; i++) {
    const l = new Learner(unknown(), finding(r.int(40 * minute)), start);
    for (let j = 0; j < 60; j++) {
      const d = l.probe();
      if (d !== undefined) assert.ok(d > 0 && d <= 30 * minute, `probe of ${d}`);
      l.ended(d ?? l.interval, (['survived', 'silent', 'reset', 'unrelated'] as const)[r.int(4)]!, start);
      assert.ok(l.interval >= 15 * second && l.interval <= 30 * minute, `every ${l.interval}`);
    }
  }
});
