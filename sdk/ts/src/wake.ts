import { Alarm, type Clock } from './clock.js';

const look = 10_000;
const tolerance = 5_000;

/**
 * Notices that the machine has slept: timers stand still meanwhile, and one
 * that should have rung rings late.
 */
export class Wake {
  readonly #clock: Clock;
  readonly #alarm: Alarm;
  #due = 0;

  constructor(clock: Clock, woke: () => void) {
    this.#clock = clock;
    this.#alarm = new Alarm(clock, () => {
      const late = clock.now() - this.#due;
      this.start();
      if (late > tolerance) woke();
    });
  }

  start(): void {
    this.#due = this.#clock.now() + look;
    this.#alarm.set(this.#due);
  }

  stop(): void {
    this.#alarm.stop();
  }
}
