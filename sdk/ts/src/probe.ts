// A connection beside the live one that is silent for a given time, and then
// asks whether it is still there.

import { Alarm, type Clock } from './clock.js';
import { capProbe, type Hello, version } from './codec/fields.js';
import { decode, encode, Splitter } from './codec/frame.js';
import type { Outcome } from './learn.js';
import type { Carrier } from './way.js';

const answerTime = 10_000;
const freshTime = 5_000;
const most = 64 << 10; // bytes of a frame

export class Probe {
  readonly #clock: Clock;
  readonly #hello: Hello;
  readonly #ended: (how: Outcome, silence: number) => void;
  readonly #in = new Splitter(most);
  readonly #alarm: Alarm;
  readonly #line: Carrier;
  #silence: number;
  #asked = false;
  #due = 0; // to ask
  #late = false;
  #over = false;
  readonly #greet: boolean;

  /** A silence of zero is a look whether there is a welcome. */
  constructor(clock: Clock, line: Carrier, login: Omit<Hello, 'type' | 'major' | 'minor'>, silence: number, ended: (how: Outcome, silence: number) => void) {
    this.#clock = clock;
    this.#line = line;
    this.#greet = silence === 0;
    this.#silence = Math.ceil(silence) || 1000;
    this.#hello = { type: 'hello', ...version, ...login, caps: capProbe, probe: this.#silence };
    this.#ended = ended;
    this.#alarm = new Alarm(clock, () => (this.#greet ? this.#end('unrelated') : this.#asked ? this.#unheard() : this.#ask()));
    if (this.#greet) this.#alarm.set(clock.now() + freshTime);
  }

  open(): void {
    this.#line.send(encode(this.#hello));
  }

  data(bytes: Uint8Array): void {
    if (this.#over) return;
    if (this.#asked) return this.#end('survived'); // any byte is a sign of life
    try {
      this.#in.push(bytes);
      for (let raw = this.#in.next(); raw && !this.#over; raw = this.#in.next()) {
        const f = decode(raw);
        if (f.type === 'close') this.#end('unrelated');
        if (f.type !== 'welcome') continue;
        if (this.#greet) return this.#end('survived');
        this.#silence = f.interval ?? this.#silence;
        this.#due = this.#clock.now() + this.#silence;
        this.#alarm.set(this.#due);
      }
    } catch {
      this.#end('unrelated');
    }
  }

  // A NAT that is honest about having forgotten says so with a reset, and so
  // does a server that restarts. It is no verdict.
  closed(): void {
    if (!this.#over) this.#end('unrelated');
  }

  /** Gives it up. */
  stop(): void {
    this.#over = true;
    this.#alarm.stop();
    this.#line.close();
  }

  #ask(): void {
    this.#asked = true;
    this.#line.send(encode({ type: 'ping', payload: new Uint8Array(0) }));
    const now = this.#clock.now();
    this.#late = now - this.#due > this.#silence / 10;
    this.#due = now + answerTime;
    this.#alarm.set(this.#due);
  }

  // A timer that rang late made the silence longer than it was to be, or leaves
  // no time for an answer that has come to be read.
  #unheard(): void {
    this.#end(this.#late || this.#clock.now() - this.#due > 1000 ? 'unrelated' : 'silent');
  }

  #end(how: Outcome): void {
    this.stop();
    this.#ended(how, this.#silence);
  }
}
