import { describe, expect, it } from 'vitest';
import type { LocatedRun } from '../../../../client/temporal/sessions/session-client.ts';
import type { RunOutputReply } from '../../../../contracts/host/data-plane.ts';
import type { HostEntry } from '../../../../domain/capacity/host-entry.ts';
import { KilnError } from '../../../../domain/failures.ts';
import { KnownRunIds } from '../../../../domain/session/known-run-ids.ts';
import {
  endRunning,
  findRun,
  NO_RUNS,
  type RunBook,
  startNext,
  takeOrder,
  turnAhead,
} from '../../../../domain/session/run-book.ts';
import { followRun, type RunFollowOptions, untilEnded } from '../../../../gateway/sessions/run-follow.ts';

const AT = '2030-01-01T00:00:00.000Z';
const VM = { hostId: 'h1', vmId: 'vm-1' };
const EXITED = { as: 'finished', code: 0, signal: null, outputBytes: 0 } as const;
const HOST: HostEntry = {
  hostId: 'h1',
  url: 'http://h1',
  at: AT,
  capacity: { vcpus: 1, memMib: 1 },
  free: { vcpus: 1, memMib: 1 },
  load: 0,
  images: [],
  driver: 'fake',
  versions: {},
  draining: false,
};

const booked = (...ids: readonly string[]): RunBook =>
  ids.reduce((book, id) => {
    const order = { id, idSha256: id, bodyHash: id, bytes: 1, body: { sealed: '' }, timeoutMs: 1, repeatable: false };
    return takeOrder(book, new KnownRunIds(), order, AT);
  }, NO_RUNS);

function located(book: RunBook, id: string, place?: typeof VM): LocatedRun {
  const run = findRun(book, id);
  if (run === undefined) throw new Error(`no run ${id}`);
  const session = { project: 'default', thread: 't', incarnation: 1 };
  const more = { epoch: 1, reservationId: 'r-1', boot: 1 };
  const at = place === undefined ? {} : { place: { ...place, ...more } };
  return { run, session, nextTurn: turnAhead(book), ...at };
}

interface HostCall {
  readonly turn: number;
  readonly waitMs: number;
  readonly after: number;
}

/** Follows a run through `looks`, one after another. @returns the kinds of news, and what hosts were asked */
async function followed(looks: readonly LocatedRun[], reply: () => RunOutputReply) {
  const calls: HostCall[] = [];
  const left = [...looks];
  const options: RunFollowOptions = {
    locate: async () => {
      const look = left.shift();
      if (look === undefined) throw new Error('one look too many');
      return look;
    },
    host: async () => HOST,
    follow: async (_host, { turn }, { waitMs, after }) => {
      calls.push({ turn, waitMs, after });
      return reply();
    },
    stored: async () => [],
    limits: { holdMs: 25_000, lookMs: 1, maxLookMs: 5_000, incompleteMs: 60_000 },
    signal: new AbortController().signal,
  };
  const kinds: string[] = [];
  for await (const { kind } of followRun(options, 0)) kinds.push(kind);
  return { kinds, calls };
}

const NOTHING = (): RunOutputReply => ({ pieces: [], isLast: false });

describe('output of a run that waited when it was looked at', () => {
  const idle = booked('a', 'b');
  const over = located(endRunning(startNext(idle, VM, AT), EXITED, AT), 'a', VM);
  const told = (runId: string) => {
    const pieces = [{ kind: 'stdout' as const, offset: 0, base64: Buffer.from('one').toString('base64') }];
    const answers: RunOutputReply[] = [{ pieces, isLast: false, runId }];
    return () => answers.shift() ?? { pieces: [], isLast: true };
  };

  it('is told at once where its host says whose it is, without another look', async () => {
    const { kinds, calls } = await followed([located(idle, 'a', VM), over], told('a'));
    expect(kinds).toEqual(['output', 'quiet', 'end']);
    expect(calls.map(({ after }) => after)).toEqual([0, 3, 3]);
  });

  it('is not told where it is that of another one, which has come to have its turn', async () => {
    const { kinds } = await followed([located(idle, 'a', VM), over], told('other'));
    expect(kinds).toEqual(['end']);
  });
});

describe('a run that waits', () => {
  const idle = booked('a', 'b');
  const running = startNext(idle, VM, AT);
  const second = startNext(endRunning(running, EXITED, AT), VM, AT);
  const over = located(endRunning(second, EXITED, AT), 'b', VM);

  it('is asked for by the turn that it will have, whether another one runs or not', async () => {
    const { calls } = await followed([located(idle, 'b', VM), located(running, 'b', VM), over], NOTHING);
    expect(calls.map(({ turn }) => turn)).toEqual([2, 2, 2]);
  });

  it('is looked at again soon; one that runs is held by its host', async () => {
    const { calls } = await followed([located(running, 'b', VM), located(second, 'b', VM), over], NOTHING);
    expect(calls.map(({ waitMs }) => waitMs)).toEqual([5_000, 25_000, 0]);
  });

  it('shows that its stream is alive while no host can be asked', async () => {
    const { kinds, calls } = await followed([located(idle, 'b'), located(idle, 'b'), over], NOTHING);
    expect(kinds).toEqual(['quiet', 'quiet', 'end']);
    expect(calls).toHaveLength(1);
  });
});

describe('the end of a run whose output is not all there', () => {
  const WROTE = { ...EXITED, outputBytes: 3 } as const;
  const over = located(endRunning(startNext(booked('a'), VM, AT), WROTE, AT), 'a');
  const piece = { kind: 'stdout' as const, offset: 0, base64: Buffer.from('one').toString('base64') };
  const lost = () => new KilnError('HOST_LOST', 'no answer');
  const away = () => new KilnError('STORE_UNAVAILABLE', 'away');

  type Answers<T> = readonly (T | KilnError)[];
  /** Each answer is given once, the last one again and again. */
  function answering<T>(answers: Answers<T>): () => Promise<T> {
    const left = [...answers];
    return async () => {
      const answer = left.length > 1 ? left.shift() : left[0];
      if (answer === undefined || answer instanceof KilnError) throw answer;
      return answer;
    };
  }

  async function newsOf(from: {
    readonly host?: Answers<{ readonly entry: HostEntry | undefined }>;
    readonly follow?: Answers<RunOutputReply>;
    readonly store?: Answers<readonly (typeof piece)[]>;
    readonly incompleteMs?: number;
  }) {
    const { incompleteMs = 60_000 } = from;
    const host = answering(from.host ?? [{ entry: HOST }]);
    const options: RunFollowOptions = {
      locate: async () => over,
      host: async () => (await host()).entry,
      follow: answering(from.follow ?? [NOTHING()]),
      stored: answering(from.store ?? [[]]),
      limits: { holdMs: 25_000, lookMs: 1, maxLookMs: 1, incompleteMs },
      signal: new AbortController().signal,
    };
    const told: string[] = [];
    for await (const news of followRun(options, 0)) {
      if (news.kind !== 'quiet') told.push(news.kind === 'output' ? news.piece.kind : news.kind);
    }
    return told;
  }

  it.each([
    ['its host is lost', { host: [{ entry: undefined }] }, ['gap', 'end']],
    ['its host has nothing either', {}, ['gap', 'end']],
    ['it is in the store', { follow: [lost()], store: [[piece]] }, ['stdout', 'end']],
    [
      'its host answers again',
      { follow: [lost(), lost(), { pieces: [piece], isLast: true }, { pieces: [], isLast: true }] },
      ['stdout', 'end'],
    ],
    [
      'its host does not come back',
      { host: [{ entry: HOST }, { entry: undefined }], follow: [lost()] },
      ['gap', 'end'],
    ],
    ['its host is there and never answers', { follow: [lost()], incompleteMs: 20 }, ['gap', 'end']],
    ['it comes to the store late', { follow: [lost()], store: [[], [], [piece]] }, ['stdout', 'end']],
    [
      'the store is away for a while',
      { host: [away(), { entry: undefined }], store: [away(), away(), [piece]] },
      ['stdout', 'end'],
    ],
  ])('%s', async (_what, from, news) => {
    expect(await newsOf(from)).toEqual(news);
  });
});

describe('a run of which nobody can tell for a while', () => {
  const over = located(endRunning(startNext(booked('a'), VM, AT), EXITED, AT), 'a');
  const running = located(startNext(booked('a'), VM, AT), 'a');
  const away = (code: 'TEMPORAL_UNAVAILABLE' | 'STORE_UNAVAILABLE' | 'NOT_FOUND') => new KilnError(code, code);

  function optionsOf(
    looks: readonly (LocatedRun | KilnError)[],
    signal = new AbortController().signal,
  ): RunFollowOptions {
    const left = [...looks];
    return {
      locate: async () => {
        const look = left.length > 1 ? left.shift() : left[0];
        if (look === undefined || look instanceof KilnError) throw look;
        return look;
      },
      host: async () => undefined,
      follow: async () => NOTHING(),
      stored: async () => [],
      limits: { holdMs: 25_000, lookMs: 1, maxLookMs: 1, incompleteMs: 60_000 },
      signal,
    };
  }

  it('is waited for', async () => {
    const looks = [away('TEMPORAL_UNAVAILABLE'), away('STORE_UNAVAILABLE'), over];
    expect((await untilEnded(optionsOf(looks), running.run)).state).toBe('ended');
  });

  it('is answered as it was known, once the time is over', async () => {
    const looks = [away('TEMPORAL_UNAVAILABLE')];
    expect(await untilEnded(optionsOf(looks, AbortSignal.timeout(10)), running.run)).toEqual(running.run);
  });

  it('is not waited for where it is not there', async () => {
    await expect(untilEnded(optionsOf([away('NOT_FOUND')]), running.run)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
