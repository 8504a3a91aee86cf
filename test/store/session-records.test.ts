/** `session.json` under races, and what its key seals, on a real S3 server. */
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type SessionName, sessionNameOf, sessionWorkflowId, storeKeys } from '../../domain/names.ts';
import { SESSION_DEFAULTS } from '../../domain/policies.ts';
import type { SessionEnd, SessionSettings } from '../../domain/session/session-record.ts';
import type { SessionRecords } from '../../ports/session-books.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createSealedBodies, MAX_SEALED_BODY } from '../../store/sessions/sealed-bodies.ts';
import { createSessionRecords } from '../../store/sessions/session-records.ts';
import { freshObjectStore } from '../support/servers/object-store.ts';

const AT = '2026-01-02T03:04:05.678Z';
const SETTINGS: SessionSettings = {
  ...SESSION_DEFAULTS,
  image: { name: SESSION_DEFAULTS.image, digest: `sha256:${'0'.repeat(64)}` },
};
const CLOSED: SessionEnd = { as: 'closed', at: AT, cause: 'asked by its owner', lastTurn: 3 };
const threadOf = (thread: string, incarnation = 1): SessionName => ({ project: 'p', thread, incarnation });

let store: ObjectStore;
let records: SessionRecords;
beforeAll(async () => {
  store = await freshObjectStore();
  records = createSessionRecords(store);
});
afterAll(() => store.close());

const begin = (thread: string, after = 0, settings = SETTINGS) =>
  records.begin(threadOf(thread), { after, settings, createdAt: AT });

describe('the record of a thread', () => {
  it('is begun once, however many begin it at once', async () => {
    const sized = (vcpus: number) => ({ ...SETTINGS, resources: { ...SETTINGS.resources, vcpus } });
    const begun = await Promise.all([1, 2, 3, 4, 5, 6].map((vcpus) => begin('race', 0, sized(vcpus))));
    const there = await records.read(threadOf('race'));
    expect(begun).toEqual(begun.map(() => there));
    expect(there?.incarnation).toBe(1);
  });

  it('begins the next incarnation after an end, once', async () => {
    await begin('again');
    await expect(begin('again', 1)).rejects.toMatchObject({ code: 'CONFLICT' });
    await records.end(threadOf('again'), CLOSED);
    const begun = await Promise.all([begin('again', 1), begin('again', 1), begin('again', 1)]);
    expect(begun.map(({ incarnation }) => incarnation)).toEqual([2, 2, 2]);
    expect((await begin('again', 1)).incarnation).toBe(2);
    expect(begun[0]?.end).toBeUndefined();
  });

  it('ends once, and a late end of an earlier incarnation changes nothing', async () => {
    await begin('end');
    expect((await records.end(threadOf('end'), CLOSED)).end).toEqual(CLOSED);
    const late: SessionEnd = { as: 'expired', at: AT, cause: 'too late', lastTurn: 9 };
    expect((await records.end(threadOf('end'), late)).end).toEqual(CLOSED);
    await begin('end', 1);
    expect(await records.end(threadOf('end'), late)).toMatchObject({ incarnation: 2 });
    expect((await records.read(threadOf('end')))?.end).toBeUndefined();
    await expect(records.end(threadOf('none'), CLOSED)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('changes of settings at once are all kept', async () => {
    await begin('change');
    const add = (name: string) =>
      records.change(threadOf('change'), (settings) => ({ ...settings, egress: [...settings.egress, name] }));
    await Promise.all(['a.test:443', 'b.test:443', 'c.test:443'].map(add));
    const { settings } = (await records.read(threadOf('change'))) ?? {};
    expect(settings?.egress.toSorted()).toEqual(['a.test:443', 'b.test:443', 'c.test:443']);
  });

  it('a change after the end is refused with how and when it ended', async () => {
    await begin('over');
    await records.end(threadOf('over'), { ...CLOSED, as: 'expired' });
    const change = records.change(threadOf('over'), (settings) => settings);
    await expect(change).rejects.toMatchObject({ code: 'SESSION_EXPIRED', details: { at: AT, lastTurn: 3 } });
  });
});

describe('sealed bodies', () => {
  const to = { session: threadOf('seal'), runId: 'msg-1', part: 'request' } as const;

  it('are opened by any process that reads the key, for the same run alone', async () => {
    const here = createSealedBodies(store);
    const there = createSealedBodies(store);
    const body = randomBytes(1000);
    const sealed = await here.seal(body, to);
    expect(await there.open(sealed, to)).toEqual(body);
    const others = [{ ...to, runId: 'msg-2' }, { ...to, part: 'answer' } as const];
    for (const other of others) {
      await expect(there.open(sealed, other)).rejects.toMatchObject({ code: 'SESSION_CORRUPT' });
    }
    const ofAnother = { ...to, session: threadOf('another') };
    await here.seal(body, ofAnother);
    await expect(there.open(sealed, ofAnother)).rejects.toMatchObject({ code: 'SESSION_CORRUPT' });
  });

  it('processes that seal first at once agree on one key', async () => {
    const session = threadOf('first');
    const makers = [1, 2, 3, 4].map(() => createSealedBodies(store));
    const sealed = await Promise.all(makers.map((maker) => maker.seal(Buffer.from('text'), { ...to, session })));
    const opened = await Promise.all(sealed.map((text) => createSealedBodies(store).open(text, { ...to, session })));
    expect(opened.map(String)).toEqual(['text', 'text', 'text', 'text']);
  });

  it('nothing can be opened once the key is deleted', async () => {
    const session = threadOf('deleted');
    const sealed = await createSealedBodies(store).seal(Buffer.from('text'), { ...to, session });
    await store.delete(storeKeys.sessionKey(session));
    const opening = createSealedBodies(store).open(sealed, { ...to, session });
    await expect(opening).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('damage of any kind is SESSION_CORRUPT, and a larger body is refused', async () => {
    const bodies = createSealedBodies(store);
    const sealed = Buffer.from(await bodies.seal(Buffer.from('some text'), to), 'base64');
    await fc.assert(
      fc.asyncProperty(fc.nat(sealed.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const damaged = Buffer.from(sealed);
        damaged[at] = (damaged[at] ?? 0) ^ flip;
        await expect(bodies.open(damaged.toString('base64'), to)).rejects.toMatchObject({ code: 'SESSION_CORRUPT' });
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.string(), async (text) => {
        await expect(bodies.open(text, to)).rejects.toMatchObject({ code: 'SESSION_CORRUPT' });
      }),
    );
    const tooLarge = bodies.seal(Buffer.alloc(MAX_SEALED_BODY + 1), to);
    await expect(tooLarge).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
  });
});

describe('names of sessions', () => {
  it('are read back from the workflow id, and nothing else is one', () => {
    const name: SessionName = { project: 'p-1', thread: 'Thread.1_x', incarnation: 12 };
    expect(sessionNameOf(sessionWorkflowId(name))).toEqual(name);
    const others = [
      'session/p/.hidden/1',
      'session/p/t/0',
      'session/p/t/01',
      'session/p/t/1/2',
      'workload/t',
      'session/P/t/1',
    ];
    expect(others.map(sessionNameOf)).toEqual(others.map(() => undefined));
  });
});
