import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { HostEntry } from '../../../../domain/capacity/host-entry.ts';
import { KilnError } from '../../../../domain/failures.ts';
import {
  createHostEntries,
  forgetting,
  type HostEntries,
  type HostEntriesOptions,
} from '../../../../gateway/hosts/host-entries.ts';

const AT = '2030-01-01T00:00:00.000Z';

/** @returns a registration whose address tells which one it is */
function entry(hostId: string, n: number): HostEntry {
  const size = { vcpus: 1, memMib: 1 };
  const rest = { capacity: size, free: size, load: 0, images: [], driver: 'fake', versions: {}, draining: false };
  return { hostId, url: `http://${n}`, at: new Date(clock.now).toISOString(), ...rest };
}

/** A store that answers when it is told to, with a new registration for each reading. */
function slowStore() {
  const asked: PromiseWithResolvers<HostEntry | undefined>[] = [];
  const read = () => {
    const answer = Promise.withResolvers<HostEntry | undefined>();
    asked.push(answer);
    return answer.promise;
  };
  const answer = async (hostId = 'h1') => {
    asked.at(-1)?.resolve(entry(hostId, asked.length));
    await delay(0);
  };
  return { asked, read, answer };
}

const NEW_MS = 20;
const FRESH_MS = 30_000;
const clock = { now: Date.parse(AT) };

/** Reads the entry of `h1` for the first time. */
async function known(entries: HostEntries, store: ReturnType<typeof slowStore>): Promise<HostEntry> {
  const reading = entries.read('h1');
  await store.answer();
  const found = await reading;
  if (found === undefined) throw new Error('h1 is not known');
  return found;
}

function entriesOf(store: Pick<ReturnType<typeof slowStore>, 'read'>, more: Partial<HostEntriesOptions> = {}) {
  const times = { hostNewMs: NEW_MS, hostFreshMs: FRESH_MS, newerWaitMs: 5 };
  return createHostEntries({ host: store.read, now: () => clock.now, ...times, ...more });
}

describe('registrations of hosts', () => {
  it('are read once while they are new, however many ask at once', async () => {
    const store = slowStore();
    const entries = entriesOf(store, { hostNewMs: 60_000 });
    const both = [entries.read('h1'), entries.read('h1')];
    await store.answer();
    expect((await Promise.all(both)).map((found) => found?.url)).toEqual(['http://1', 'http://1']);
    expect((await entries.read('h1', { newest: true }))?.url).toBe('http://1');
    expect(store.asked).toHaveLength(1);
  });

  it('that are not new are answered at once, and read again behind the answer', async () => {
    const store = slowStore();
    const entries = entriesOf(store);
    await known(entries, store);
    await delay(2 * NEW_MS);
    expect((await entries.read('h1'))?.url).toBe('http://1');
    expect(store.asked).toHaveLength(2);
    await store.answer();
    expect((await entries.read('h1'))?.url).toBe('http://2');
  });

  it('that are not new are waited for where only the newest will do', async () => {
    const store = slowStore();
    const entries = entriesOf(store);
    await known(entries, store);
    await delay(2 * NEW_MS);
    const newest = entries.read('h1', { newest: true });
    await store.answer();
    expect((await newest)?.url).toBe('http://2');
  });

  it('outlive a store that is away, and are unknown where they never were read', async () => {
    const store = slowStore();
    const entries = entriesOf(store);
    await known(entries, store);
    await delay(2 * NEW_MS);
    const away = new KilnError('STORE_UNAVAILABLE', 'away');
    const again = entries.read('h1');
    store.asked.at(-1)?.reject(away);
    expect((await again)?.url).toBe('http://1');
    await delay(0);
    expect((await entries.read('h1'))?.url).toBe('http://1');
    const unknown = entries.read('h2');
    store.asked.at(-1)?.reject(away);
    await expect(unknown).rejects.toBe(away);
    const none = entries.read('h3');
    store.asked.at(-1)?.resolve(undefined);
    expect(await none).toBeUndefined();
  });

  it('that are too old are read again; where that takes long, the old address may do, but not for the newest', async () => {
    const store = slowStore();
    const entries = entriesOf(store, { newerWaitMs: 60_000 });
    await known(entries, store);
    await delay(2 * NEW_MS);
    clock.now += FRESH_MS + 1;
    const again = entries.read('h1');
    await delay(0);
    await store.answer();
    expect((await again)?.url).toBe('http://2');
    const hasty = entriesOf(store);
    await known(hasty, store);
    await delay(2 * NEW_MS);
    clock.now += FRESH_MS + 1;
    expect((await hasty.read('h1'))?.url).toBe('http://3');
    const newest = hasty.read('h1', { newest: true });
    clock.now -= FRESH_MS + 1;
    const late = entry('h1', 9);
    clock.now += FRESH_MS + 1;
    store.asked.at(-1)?.resolve(late);
    expect(await newest).toBeUndefined();
  });

  it('of a host that has not registered for long are none', async () => {
    const store = slowStore();
    const entries = entriesOf(store, { newerWaitMs: 60_000, hostNewMs: 100 });
    const found = await known(entries, store);
    await delay(150);
    clock.now += FRESH_MS + 1;
    const again = entries.read('h1');
    await delay(0);
    store.asked.at(-1)?.resolve({ ...entry('h1', 2), at: found.at });
    expect(await again).toBeUndefined();
    // Also while that reading is new, and where the host was asked in vain meanwhile.
    expect(await entries.read('h1')).toBeUndefined();
    entries.forget('h1');
    const last = entries.read('h1');
    store.asked.at(-1)?.resolve({ ...entry('h1', 3), at: found.at });
    expect(await last).toBeUndefined();
  });

  it('are forgotten while others wait for them: these get what is read', async () => {
    const store = slowStore();
    const entries = entriesOf(store);
    const first = entries.read('h1');
    entries.forget('h1');
    const second = entries.read('h1');
    await store.answer();
    expect((await Promise.all([first, second])).map((found) => found?.url)).toEqual(['http://1', 'http://1']);
    entries.forget('h1');
    const [third, fourth] = [entries.read('h1'), entries.read('h1')];
    await store.answer();
    expect((await Promise.all([third, fourth])).map((found) => found?.url)).toEqual(['http://2', 'http://2']);
    expect(store.asked).toHaveLength(2);
  });

  it('that were forgotten are not what is answered while the store is away, or once the host has none', async () => {
    const store = slowStore();
    const entries = entriesOf(store, { hostNewMs: 60_000 });
    await known(entries, store);
    entries.forget('h1');
    const away = new KilnError('STORE_UNAVAILABLE', 'away');
    const again = entries.read('h1');
    store.asked.at(-1)?.reject(away);
    await expect(again).rejects.toBe(away);
    for (let time = 0; time < 2; time++) {
      const none = entries.read('h1');
      store.asked.at(-1)?.resolve(undefined);
      expect(await none).toBeUndefined();
    }
    const back = entries.read('h1');
    await store.answer();
    expect((await back)?.url).toBe(`http://${store.asked.length}`);
  });

  it('are forgotten where the host does not answer, and kept where it refuses or nobody waits for it', async () => {
    const store = slowStore();
    const entries = entriesOf(store, { hostNewMs: 60_000 });
    const left = AbortSignal.abort();
    const asking = (code: 'HOST_LOST' | 'NOT_FOUND', signal = new AbortController().signal) =>
      forgetting(entries, async () => {
        throw new KilnError(code, code);
      })(entry('h1', 1), {}, { signal });
    await known(entries, store);
    await expect(asking('NOT_FOUND')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(asking('HOST_LOST', left)).rejects.toMatchObject({ code: 'HOST_LOST' });
    await entries.read('h1');
    expect(store.asked).toHaveLength(1);
    await expect(asking('HOST_LOST')).rejects.toMatchObject({ code: 'HOST_LOST' });
    const second = entries.read('h1');
    await store.answer();
    expect((await second)?.url).toBe('http://2');
  });
});
