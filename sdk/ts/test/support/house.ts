// A client in virtual time whose network is what a test says.

import { Client } from '../../src/client.js';
import { memoryStore } from '../../src/store/memory.js';
import type { Entry } from '../../src/store/store.js';
import type { Connection, Login, Owner, Way } from '../../src/way.js';
import type { ClientOptions } from '../../src/world.js';
import { Message } from '../../src/types.js';
import { VirtualClock } from './time.js';

/** The message at a place. */
export const message = (seq: number): Message =>
  new Message({
    seq, prev: seq - 1, id: `m${seq}`, from: 'bob@localhost', to: 'alice@localhost', device: '', time: new Date(0), expires: undefined,
    type: 'text/plain; charset=utf-8', urgency: 'normal', attrs: [], left: 0, data: new Uint8Array(0),
  });

/** A connection that takes what there is to send and lets the test answer. */
export class FakeConnection implements Connection {
  readonly login: Login;
  readonly owner: Owner;
  readonly taken: Entry[] = [];
  readonly done: string[] = []; // what was asked of it
  open = true;

  constructor(login: Login, owner: Owner) {
    this.login = login;
    this.owner = owner;
  }

  welcome(): void {
    this.owner.welcomed({ address: 'alice@localhost', device: 'phone', cursor: 0, time: 0 });
    this.work();
  }

  work(): void {
    for (let e = this.owner.take(); e; e = this.owner.take()) this.taken.push(e);
  }

  handled(place: number): void {
    this.done.push(`handled ${place}`);
  }

  signal(): boolean {
    return false;
  }

  devices(): boolean {
    return false;
  }

  set(): void {}

  check(): void {
    this.done.push('check');
  }

  close(): Promise<void> {
    this.done.push('close');
    this.open = false;
    return Promise.resolve();
  }

  drop(): Entry[] {
    this.open = false;
    return this.taken.splice(0);
  }
}

export class House {
  readonly clock = new VirtualClock();
  readonly connections: FakeConnection[] = [];
  readonly client: Client;

  constructor(o: Partial<ClientOptions> = {}) {
    const way: Way = {
      name: 'websocket',
      open: (login, owner) => {
        const c = new FakeConnection(login, owner);
        this.connections.push(c);
        return c;
      },
    };
    this.client = new Client(
      { credentials: { user: 'alice', password: 'secret' }, device: 'phone', network: '', store: memoryStore(), trace: undefined, ...o },
      { ways: [way], clock: this.clock, random: () => 0.5, prefix: 'k' },
    );
  }

  get last(): FakeConnection {
    return this.connections.at(-1)!;
  }
}
