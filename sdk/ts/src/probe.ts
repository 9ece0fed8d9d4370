// A connection beside the live one that is silent for a given time, and then
// asks whether it is still there.

import { Alarm, type Clock } from './clock.js';
import { capProbe, type Hello, version } from './codec/fields.js';
import { decode, encode, type Frame, Splitter } from './codec/frame.js';
import { format } from './codec/text.js';
import type { Outcome } from './learn.js';
import type { Pace } from './pace.js';
import type { Carrier, ProbeOwner } from './way.js';

const connectTime = 15_000; // for the network and the welcome
const freshTime = 5_000; // the same, to show that the network is there
const longestAnswer = 10_000;
const most = 64 << 10; // bytes of a frame

export class Probe {
  readonly #clock: Clock;
  readonly #line: Carrier;
  readonly #owner: ProbeOwner;
  readonly #hello: Hello;
  readonly #silence: number;
  readonly #in = new Splitter(most);
  readonly #alarm: Alarm;
  readonly #pace: Pace;
  #answer = 0; // how long the server may take to answer
  readonly #looks: boolean; // whether there is a welcome, and no more
  #state: 'greeting' | 'silent' | 'asked' | 'ended' = 'greeting';
  #due = 0; // when the alarm is to ring
  #late = false;

  /** Without a silence it looks whether there is a welcome. Pace is how soon the server answers. */
  constructor(clock: Clock, line: Carrier, login: Omit<Hello, 'type' | 'major' | 'minor'>, o: { silence: number | undefined; pace: Pace }, owner: ProbeOwner) {
    const { silence } = o;
    this.#clock = clock;
    this.#pace = o.pace;
    this.#line = line;
    this.#owner = owner;
    this.#looks = silence === undefined;
    this.#silence = silence ?? 1000;
    this.#hello = { type: 'hello', ...version, ...login, caps: capProbe, probe: this.#silence };
    this.#alarm = new Alarm(clock, () => this.#rung());
    this.#await(this.#looks ? freshTime : connectTime);
  }

  open(): void {
    this.#say(this.#hello);
  }

  data(bytes: Uint8Array): void {
    if (this.#state === 'ended') return;
    // While it is silent the server has nothing to say.
    if (this.#state === 'silent') return this.#end('unrelated');
    try {
      this.#in.push(bytes);
      for (let raw = this.#in.next(); raw; raw = this.#in.next()) {
        const f = decode(raw);
        this.#owner.trace(() => 'probe S: ' + format(f));
        if (this.#state === 'asked') return this.#end(f.type === 'pong' ? 'survived' : 'unrelated');
        if (f.type === 'welcome') return this.#welcomed(f.interval ?? 0);
        if (f.type !== 'unknown') return this.#end('unrelated');
      }
    } catch {
      this.#end('unrelated');
    }
  }

  #welcomed(granted: number): void {
    if (granted < this.#silence) return this.#end('unrelated');
    if (this.#looks) return this.#end('survived');
    this.#state = 'silent';
    this.#answer = Math.min(2 * this.#pace.dead, longestAnswer);
    this.#await(this.#silence);
  }

  /** Its end says something if it answers what was asked: with a reset. */
  closed(_why: string, reset = false): void {
    if (this.#state !== 'ended') this.#end(this.#state === 'asked' && reset ? 'reset' : 'unrelated');
  }

  /** Gives it up. */
  stop(): void {
    this.#state = 'ended';
    this.#alarm.stop();
    this.#line.close();
  }

  #await(time: number): void {
    this.#due = this.#clock.now() + time;
    this.#alarm.set(this.#due);
  }

  #rung(): void {
    const late = this.#clock.now() - this.#due;
    switch (this.#state) {
      case 'greeting':
        return this.#end('unrelated');
      case 'silent':
        this.#state = 'asked';
        this.#late = late > this.#silence / 10;
        this.#await(this.#answer);
        return this.#say({ type: 'ping', payload: new Uint8Array(0) });
      case 'asked':
        // A timer that rang late made the silence longer than it was to be, or
        // leaves no time for an answer that has come to be read.
        return this.#end(this.#late || late > 1000 ? 'unrelated' : 'silent');
    }
  }

  #say(f: Frame): void {
    this.#owner.trace(() => 'probe C: ' + format(f));
    this.#line.send(encode(f));
  }

  #end(how: Outcome): void {
    this.stop();
    this.#owner.ended(how);
  }
}
