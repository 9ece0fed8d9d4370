import type { Login } from './way.js';

/** A token, or what gives a fresh one; or a name and a password. */
export type Credentials = { token: string | (() => Promise<string>) } | { user: string; password: string };

/** Credentials, and whose they say that they are. */
export class Identity {
  readonly #c: Credentials;
  /** In the words of the credentials brought last; empty if they do not say. */
  whose = '';

  constructor(c: Credentials) {
    this.#c = c;
  }

  /** Brings what a connection is to log in with. */
  async bring(): Promise<Login> {
    const c = this.#c;
    if ('user' in c) {
      this.whose = `user ${c.user}`;
      return { user: c.user, password: c.password };
    }
    const token = typeof c.token === 'string' ? c.token : await c.token();
    const sub = subject(token);
    this.whose = sub === undefined ? '' : `token of ${sub}`;
    return { token };
  }

  /** Brings a fresh token; undefined if there is nothing that could. */
  get renew(): (() => Promise<string>) | undefined {
    return 'token' in this.#c && typeof this.#c.token === 'function' ? this.#c.token : undefined;
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
