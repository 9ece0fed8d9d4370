import type { Inbox } from './inbox.js';
import type { ClosedError, Message } from './types.js';

export interface LoopOwner {
  closed(): ClosedError | undefined;
  /** Calls f whenever the client may have been closed. The result stops it. */
  watch(f: () => void): () => void;
}

/** Messages for a loop, which is done with one when it asks for the next. */
export async function* loop(inbox: Inbox, owner: LoopOwner): AsyncGenerator<Message, void, undefined> {
  let given: { m: Message; done: () => void } | undefined;
  let ring = () => {};
  inbox.handle(
    (m) =>
      new Promise((done) => {
        given = { m, done };
        ring();
      }),
  );
  const stop = owner.watch(() => ring());
  try {
    for (;;) {
      const why = owner.closed();
      if (given) {
        yield given.m;
        given.done();
        given = undefined;
      } else if (!why) {
        await new Promise<void>((resolve) => (ring = resolve));
      } else if (why.code === 'done') {
        return;
      } else {
        throw why;
      }
    }
  } finally {
    stop();
    inbox.release();
    given?.done();
  }
}
