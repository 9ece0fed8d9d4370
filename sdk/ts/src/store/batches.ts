interface Waiting<C> {
  change: C;
  done(): void;
  failed(e: unknown): void;
}

/** Writes changes in their order, all that wait with one write. */
export class Batches<C> {
  readonly #write: (changes: C[]) => Promise<void>;
  #waiting: Waiting<C>[] = [];
  #writing: Promise<void> | undefined;

  constructor(write: (changes: C[]) => Promise<void>) {
    this.#write = write;
  }

  /** The promise is that the change is written. */
  add(change: C): Promise<void> {
    return new Promise((done, failed) => {
      this.#waiting.push({ change, done, failed });
      this.#writing ??= this.#run();
    });
  }

  /** Resolves when everything is written, or has failed. */
  async idle(): Promise<void> {
    await this.#writing;
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      try {
        await this.#write(batch.map((w) => w.change));
        for (const w of batch) w.done();
      } catch (e) {
        for (const w of batch) w.failed(e);
      }
    }
    this.#writing = undefined;
  }
}
