// When an answer is overdue, and when it will not come any more. Why and how is
// in docs/link.md, "Is it still there?".

const minDoubt = 500;
const minAnswer = 1500;
const soon = 1750; // there is to be a WELCOME, if the network is not so far that it cannot be: then minAnswer is shorter
const maxAnswer = 10_000;

/** How long the server takes to answer: the round trip, smoothed, and how it varies (RFC 6298 section 2). */
export class Pace {
  #srtt: number | undefined;
  #rttvar = 0;
  /** Heartbeats that were not answered, one after another. */
  late = 0;
  /** The last connection was not answered, and nothing had come behind its welcome. */
  deaf = false;

  /** An answer took so many milliseconds; more, if the machine slept. */
  answered(took: number): void {
    const r = Math.min(took, maxAnswer);
    if (this.#srtt === undefined) {
      // "RTTVAR <- R/2" there. Who is wrong here has opened a connection for nothing.
      this.#srtt = r;
      this.#rttvar = r / 16;
      return;
    }
    // "RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|
    //  SRTT <- (1 - alpha) * SRTT + alpha * R'", 1/4 and 1/8
    this.#rttvar += (Math.abs(this.#srtt - r) - this.#rttvar) / 4;
    this.#srtt += (r - this.#srtt) / 8;
  }

  /** After so many milliseconds an answer is overdue. */
  get doubt(): number {
    return Math.max((this.#srtt ?? 0) + 4 * this.#rttvar, minDoubt);
  }

  /** After so many it will not come. It is twice as long after each that did not (RFC 6298 section 5.5). */
  get dead(): number {
    return Math.min(Math.max(2 * this.doubt, Math.min(minAnswer, soon - (this.#srtt ?? 0))) * 2 ** Math.min(this.late, 3), maxAnswer);
  }
}
