import { Alarm, type Clock } from './clock.js';
import { within } from './promises.js';
import type { Login } from './way.js';

/** A token, or what gives a fresh one; or a name and a password. */
export type Credentials = { token: string | (() => Promise<string>) } | { user: string; password: string };

const tokenTime = 30_000; // for the application to bring one

/** Credentials, and whose they say that they are. */
export class Identity {
  readonly #c: Credentials;
  readonly #clock: Clock;
  /** In the words of the credentials brought last; empty if they do not say. */
  whose = '';

  constructor(c: Credentials, clock: Clock) {
    this.#c = c;
    this.#clock = clock;
  }

  /** Whether a token can be had that is fresher than the last one. */
  get renews(): boolean {
    return 'token' in this.#c && typeof this.#c.token === 'function';
  }

  /** Brings what a connection is to log in with. */
  async bring(): Promise<Login> {
    const c = this.#c;
    if ('user' in c) {
      this.whose = `user ${c.user}`;
      return { user: c.user, password: c.password };
    }
    const token = typeof c.token === 'string' ? c.token : await within(this.#clock, tokenTime, 'to bring a token', c.token());
    if (typeof token !== 'string' || token === '') throw new TypeError('there was no token');
    const sub = subject(token);
    this.whose = sub === undefined ? '' : `token of ${sub}`;
    return { token };
  }
}

export interface RenewalOwner {
  /** A fresh token for the live connection. */
  renewed(token: string): void;
  failed(e: unknown): void;
}

/** Brings a fresh token when the last one has used up four fifths of its time. */
export class Renewal {
  readonly #clock: Clock;
  readonly #identity: Identity;
  readonly #owner: RenewalOwner;
  readonly #alarm: Alarm;
  #era = 0;

  constructor(clock: Clock, identity: Identity, owner: RenewalOwner) {
    this.#clock = clock;
    this.#identity = identity;
    this.#owner = owner;
    this.#alarm = new Alarm(clock, () => void this.#renew());
  }

  /** The connection's token ends in so many milliseconds. */
  begin(left: number): void {
    if (this.#identity.renews) this.#alarm.set(this.#clock.now() + (Math.max(left, 1000) * 4) / 5);
  }

  /** The connection is gone, and its token is of no matter. */
  stop(): void {
    this.#era++;
    this.#alarm.stop();
  }

  async #renew(): Promise<void> {
    const era = this.#era;
    try {
      const { token } = await this.#identity.bring();
      if (token !== undefined && era === this.#era) this.#owner.renewed(token);
    } catch (e) {
      // The server will say when the old one has ended, and then the next
      // attempt asks again.
      this.#owner.failed(e);
    }
  }
}

/** Whose a token is, if it is one that says so (RFC 7519). */
function subject(token: string): string | undefined {
  try {
    const part = token.split('.')[1]!.replaceAll('-', '+').replaceAll('_', '/');
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (c) => c.charCodeAt(0)))) as { sub?: unknown };
    return typeof claims.sub === 'string' ? claims.sub : undefined;
  } catch {
    return undefined;
  }
}
