// A client in virtual time whose network is what a test says.

import { Client, type ClientOptions } from '../../src/client.js';
import { memoryStore } from '../../src/store/memory.js';
import type { Entry } from '../../src/store/store.js';
import type { Connection, Login, Owner, Way } from '../../src/way.js';
import { VirtualClock } from './time.js';

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
