/** The typed client of sessions against an API that answers from a script. */
import { describe, expect, it } from 'vitest';
import { createKilnClient } from '../../../client/http/kiln-client.ts';
import type { RunChunk } from '../../../client/http/sessions/run-chunks.ts';
import type { SessionOptions } from '../../../client/http/sessions/session.ts';
import { PROBLEM_TYPE, problem } from '../../../contracts/api/problem.ts';
import type { FailureCode } from '../../../domain/failures.ts';
import { finishedRun, runViewWith, sessionViewWith } from '../../support/gateway/run-views.ts';

interface Asked {
  readonly call: string;
  readonly body: unknown;
  readonly lastEventId: string | null;
  readonly signal: AbortSignal | null | undefined;
}

type Answer = (asked: Asked) => Response | Promise<Response>;

const json = (status: number, body: unknown) =>
  new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } });
const refusal = (code: FailureCode) => {
  const found = problem(code, 'no');
  return new Response(JSON.stringify(found), { status: found.status, headers: { 'content-type': PROBLEM_TYPE } });
};
const lost = (): never => {
  throw new TypeError('fetch failed');
};
const events = (...texts: string[]) =>
  new Response(texts.join(''), { headers: { 'content-type': 'text/event-stream' } });
const output = (stream: string, offset: number, bytes: Uint8Array) => {
  const data = JSON.stringify({ stream, offset, base64: Buffer.from(bytes).toString('base64') });
  return `id: ${offset + bytes.length}\nevent: output\ndata: ${data}\n\n`;
};
const end = (id: string) => `event: end\ndata: ${JSON.stringify(finishedRun(id))}\n\n`;

/**
 * @param script answers by call (`POST /api/sessions`), one after another; the last of them is given again and again
 * @returns a session whose calls are noted
 */
function scripted(script: Readonly<Record<string, readonly Answer[]>>, options: SessionOptions = {}) {
  const calls: Asked[] = [];
  const counts = new Map<string, number>();
  const fetch: typeof globalThis.fetch = async (input, init = {}) => {
    const { pathname, search } = new URL(input instanceof Request ? input.url : input);
    const call = `${init.method} ${pathname}${search}`;
    const body = typeof init.body === 'string' ? JSON.parse(init.body) : undefined;
    const { signal } = init;
    const asked = { call, body, lastEventId: new Headers(init.headers).get('last-event-id'), signal };
    calls.push(asked);
    const key = `${init.method} ${pathname}`;
    const answers = script[key] ?? [];
    const count = counts.get(key) ?? 0;
    counts.set(key, count + 1);
    const answer = answers[Math.min(count, answers.length - 1)];
    if (answer === undefined) throw new Error(`the test has no answer for ${call}`);
    return answer(asked);
  };
  const kiln = createKilnClient({ apiUrl: 'http://kiln.test', token: 't', fetch });
  const quick = { repeat: { tries: 3, pauseMs: 1, maxPauseMs: 2 }, stream: { retryMs: 1 } };
  return { calls, session: kiln.session('thread-42', { ...quick, ...options }) };
}

const RUNS = 'POST /api/sessions/thread-42/runs';
const CREATE = 'POST /api/sessions';
const accepted: Answer = ({ body }) => json(202, runViewWith(idOf(body)));

function idOf(body: unknown): string {
  return typeof body === 'object' && body !== null && 'id' in body ? String(body.id) : '';
}

async function all(run: AsyncIterable<RunChunk>): Promise<RunChunk[]> {
  const chunks: RunChunk[] = [];
  for await (const chunk of run) chunks.push(chunk);
  return chunks;
}

describe('a command', () => {
  it('is sent with what it says, once, in its project', async () => {
    const { session, calls } = scripted({ [RUNS]: [accepted] }, { project: 'p-1' });
    expect(calls).toEqual([]);
    const run = session.command(['make'], { id: 'msg-7', env: { A: '1' }, timeoutMs: 5, repeatable: true });
    expect(await run.accepted()).toMatchObject({ id: 'msg-7', state: 'waiting' });
    const body = { id: 'msg-7', command: ['make'], env: { A: '1' }, timeoutMs: 5, repeatable: true };
    expect(calls).toMatchObject([{ call: `${RUNS}?project=p-1`, body }]);
  });

  it('whose answer was lost is sent again with the id that was minted first', async () => {
    const busy: Answer = () => refusal('TEMPORAL_UNAVAILABLE');
    const { session, calls } = scripted({ [RUNS]: [lost, busy, accepted] });
    const run = session.command(['true']);
    await run.accepted();
    expect(calls.map(({ body }) => idOf(body))).toEqual([run.id, run.id, run.id]);
    expect(session.command(['true']).id).not.toBe(run.id);
  });

  it('is sent again where only a proxy has answered', async () => {
    const { session, calls } = scripted({ [RUNS]: [() => new Response('no upstream', { status: 503 }), accepted] });
    await session.command(['true']).accepted();
    expect(calls).toHaveLength(2);
  });

  it('that nobody answers fails after the tries that were given', async () => {
    const { session, calls } = scripted({ [RUNS]: [() => refusal('STORE_UNAVAILABLE')] });
    await expect(session.command(['true']).result()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    expect(calls).toHaveLength(3);
  });

  it.each<FailureCode>(['CONFLICT', 'QUEUE_FULL', 'SESSION_CLOSED', 'SPEC_INVALID'])(
    'that is refused with %s is not sent again, and all that is asked of it says so',
    async (code) => {
      const { session, calls } = scripted({ [RUNS]: [() => refusal(code)] });
      const run = session.command(['true']);
      await expect(run.accepted()).rejects.toMatchObject({ code });
      await expect(run.result()).rejects.toMatchObject({ code });
      await expect(run.cancel()).rejects.toMatchObject({ code });
      await expect(all(run)).rejects.toMatchObject({ code });
      expect(calls).toHaveLength(1);
    },
  );

  it('goes after the one that was given before it', async () => {
    const { session, calls } = scripted({ [RUNS]: [lost, accepted] });
    const runs = [session.command(['one'], { id: 'a' }), session.command(['two'], { id: 'b' })];
    await Promise.all(runs.map((run) => run.accepted()));
    expect(calls.map(({ body }) => idOf(body))).toEqual(['a', 'a', 'b']);
  });

  it('ends its sending with the signal', async () => {
    const gone = new AbortController();
    const refuse: Answer = () => {
      gone.abort(new Error('enough'));
      return refusal('STORE_UNAVAILABLE');
    };
    const { session, calls } = scripted({ [RUNS]: [refuse] });
    await expect(session.command(['true'], { signal: gone.signal }).result()).rejects.toThrow('enough');
    expect(calls).toHaveLength(1);
  });
});

describe('what is not there yet', () => {
  const refuse: Answer = () => refusal('UNSUPPORTED');

  it('is told by its code, and asked for once', async () => {
    const path = '/api/sessions/thread-42';
    const { session, calls } = scripted({
      [RUNS]: [refuse],
      [`POST ${path}/fork`]: [refuse],
    });
    await expect(session.run('make it bounce', { id: 'msg-7' }).result()).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
    await expect(session.fork('copy', { turn: 3 })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(calls.map(({ body }) => body)).toEqual([
      { id: 'msg-7', message: 'make it bounce' },
      { thread: 'copy', turn: 3 },
    ]);
  });
});

describe('settings', () => {
  const settings = { image: 'python', egress: ['example.org:443'] };
  const created: Answer = () => json(201, sessionViewWith());

  it('begin the session before the first run, and only then', async () => {
    const { session, calls } = scripted({ [CREATE]: [lost, created], [RUNS]: [accepted] }, settings);
    for (const id of ['a', 'b']) await session.command(['true'], { id }).accepted();
    expect(calls.map(({ call }) => call)).toEqual([CREATE, CREATE, RUNS, RUNS]);
    expect(calls[1]?.body).toEqual({ thread: 'thread-42', ...settings });
  });

  it('do not count where the session has others', async () => {
    const { session, calls } = scripted({ [CREATE]: [() => refusal('CONFLICT')], [RUNS]: [accepted] }, settings);
    for (const id of ['a', 'b']) await session.command(['true'], { id }).accepted();
    expect(calls.map(({ call }) => call)).toEqual([CREATE, RUNS, RUNS]);
  });

  it('are told where they cannot be had', async () => {
    const { session, calls } = scripted({ [CREATE]: [() => refusal('IMAGE_MISSING')] }, settings);
    await expect(session.command(['true']).result()).rejects.toMatchObject({ code: 'IMAGE_MISSING' });
    expect(calls).toHaveLength(1);
  });

  it('are given to the session that a run begins after an ended one', async () => {
    const script = { [CREATE]: [created, () => refusal('SESSION_CLOSED'), created], [RUNS]: [accepted] };
    const { session, calls } = scripted(script, settings);
    await session.command(['true'], { id: 'a' }).accepted();
    await session.command(['true'], { id: 'b', ifEnded: 'restart' }).accepted();
    await session.command(['true'], { id: 'c', ifEnded: 'restart' }).accepted();
    expect(calls.map(({ call }) => call)).toEqual([CREATE, RUNS, CREATE, RUNS, CREATE, RUNS]);
    expect(calls[2]?.body).toEqual({ thread: 'thread-42', ...settings, ifEnded: 'restart' });
  });
});

describe('the output of a run', () => {
  const OUTPUT = 'GET /api/sessions/thread-42/runs/a/output';
  const bytes = (...values: number[]) => Uint8Array.from(values);
  const asText = (chunks: readonly RunChunk[]) =>
    chunks.map(({ stream, text, gap }) => (gap === undefined ? `${stream} ${text}` : `gap ${gap.offset}+${gap.bytes}`));

  it('is text of whole characters for each stream by itself, and bytes as they came', async () => {
    const parts = [
      output('stdout', 0, bytes(0xef, 0xbb, 0xbf, 0x41, 0xe2, 0x82)),
      output('stderr', 6, bytes(0xc3)),
      output('stdout', 7, bytes(0xac)),
      output('stderr', 8, bytes(0xa9)),
    ];
    const { session } = scripted({ [RUNS]: [accepted], [OUTPUT]: [() => events(...parts, end('a'))] });
    const chunks = await all(session.command(['x'], { id: 'a' }));
    expect(asText(chunks)).toEqual(['stdout \ufeffA', 'stderr ', 'stdout €', 'stderr é']);
    const joined = Buffer.concat(chunks.flatMap(({ stream, bytes: some }) => (stream === 'stdout' ? [some] : [])));
    expect(joined).toEqual(Buffer.from('\ufeffA€'));
  });

  it('says where bytes are lost, and what they cut off', async () => {
    const gap = 'id: 9\nevent: gap\ndata: {"offset":1,"bytes":8}\n\n';
    const parts = [output('stdout', 0, bytes(0xe2)), gap, output('stdout', 9, bytes(0xac, 0xc3)), end('a')];
    const { session } = scripted({ [RUNS]: [accepted], [OUTPUT]: [() => events(...parts)] });
    const chunks = await all(session.command(['x'], { id: 'a' }));
    expect(asText(chunks)).toEqual(['stdout ', 'stdout \ufffd', 'gap 1+8', 'stdout \ufffd', 'stdout \ufffd']);
  });

  it('goes on behind the last whole event of a connection that broke', async () => {
    const first = output('stdout', 0, Buffer.from('one '));
    const cut = output('stdout', 4, Buffer.from('two ')).slice(0, -8);
    const broken: Answer = () =>
      new Response(
        new ReadableStream<Uint8Array>({
          start: (controller) => controller.enqueue(Buffer.from(first + cut)),
          pull: (controller) => controller.error(new TypeError('terminated')),
        }),
      );
    const rest: Answer = ({ lastEventId }) =>
      lastEventId === '4' ? events(output('stdout', 4, Buffer.from('two ')), end('a')) : refusal('INTERNAL');
    const { session, calls } = scripted({ [RUNS]: [accepted], [OUTPUT]: [broken, lost, rest] });
    const run = session.command(['x'], { id: 'a' });
    expect(asText(await all(run))).toEqual(['stdout one ', 'stdout two ']);
    expect(calls.slice(1).map(({ lastEventId }) => lastEventId)).toEqual([null, '4', '4']);
    expect(await run.result()).toMatchObject({ exit: { code: 0 } });
    expect(calls).toHaveLength(4);
  });

  it('ends quietly with the signal', async () => {
    const gone = new AbortController();
    const open: Answer = ({ signal }) =>
      new Response(
        new ReadableStream<Uint8Array>({
          start: (controller) => {
            controller.enqueue(Buffer.from(output('stdout', 0, Buffer.from('one'))));
            signal?.addEventListener('abort', () => controller.error(signal.reason));
          },
        }),
      );
    const { session } = scripted({ [RUNS]: [accepted], [OUTPUT]: [open] });
    const seen: string[] = [];
    for await (const { text } of session.command(['x'], { id: 'a', signal: gone.signal })) {
      seen.push(text ?? '');
      gone.abort();
    }
    expect(seen).toEqual(['one']);
  });
});

describe('the end of a run', () => {
  const RUN = 'GET /api/sessions/thread-42/runs/a';
  const running: Answer = () => json(200, runViewWith('a', { state: 'running', turn: 1 }));
  const ended =
    (more: Parameters<typeof runViewWith>[1]): Answer =>
    () =>
      json(200, runViewWith('a', more));

  it('is waited for, also across calls that are lost, and may be any exit', async () => {
    const exited: Answer = () => json(200, finishedRun('a', { code: 7 }));
    const { session, calls } = scripted({ [RUNS]: [accepted], [RUN]: [running, lost, running, exited] });
    expect(await session.command(['x'], { id: 'a' }).result()).toMatchObject({ exit: { code: 7 } });
    expect(calls[1]?.call).toBe(`${RUN}?waitMs=25000`);
    expect(calls).toHaveLength(5);
  });

  it.each([
    [{ state: 'failed', failure: { code: 'RUN_TIMEOUT', message: 'too long' } }, 'RUN_TIMEOUT', 'too long'],
    [{ state: 'failed', failure: { code: 'OF_A_LATER_KILN', message: 'new' } }, 'INTERNAL', 'new'],
    [{ state: 'cancelled', cause: 'CANCEL_ASKED' }, 'CANCELLED', 'The run a was cancelled.'],
    [{ state: 'cancelled', cause: 'SESSION_CLOSED' }, 'SESSION_CLOSED', 'its session was closed'],
  ] as const)('is told by its code where it did not exit: %j', async (more, code, message) => {
    const { session } = scripted({ [RUNS]: [accepted], [RUN]: [ended(more)] });
    const failure = await session
      .command(['x'], { id: 'a' })
      .result()
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code, message: expect.stringContaining(message), details: { run: more } });
  });

  it('is known at once of a run that had ended, sent again or only asked for', async () => {
    const done: Answer = () => json(200, finishedRun('a'));
    const { session, calls } = scripted({ [RUNS]: [done], [RUN]: [done] });
    expect(await session.command(['x'], { id: 'a' }).result()).toMatchObject({ state: 'finished' });
    expect(await session.existing('a').result()).toMatchObject({ state: 'finished' });
    expect(calls.map(({ call }) => call)).toEqual([RUNS, RUN]);
  });

  it('comes by a cancel, which may be repeated', async () => {
    const cancelled: Answer = () => json(200, runViewWith('a', { state: 'cancelled', cause: 'CANCEL_ASKED' }));
    const { session, calls } = scripted({
      [RUNS]: [accepted],
      [`DELETE /api/sessions/thread-42/runs/a`]: [lost, cancelled],
    });
    const run = session.command(['x'], { id: 'a' });
    expect(await run.cancel()).toMatchObject({ state: 'cancelled' });
    await expect(run.result()).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(calls).toHaveLength(3);
  });
});

it('a session is read, closed and deleted', async () => {
  const script = {
    'GET /api/sessions/thread-42': [() => json(200, sessionViewWith())],
    'POST /api/sessions/thread-42/close': [() => json(202, sessionViewWith())],
    'DELETE /api/sessions/thread-42': [() => json(202, sessionViewWith())],
  };
  const { session, calls } = scripted(script, { project: 'p-1' });
  expect(await session.get()).toMatchObject({ tier: 'warm' });
  await session.close({ waitMs: 5 });
  await session.delete({ waitMs: 6 });
  expect(calls.map(({ call, body }) => [call, body])).toEqual([
    ['GET /api/sessions/thread-42?project=p-1', undefined],
    ['POST /api/sessions/thread-42/close?project=p-1', { waitMs: 5 }],
    ['DELETE /api/sessions/thread-42?project=p-1&waitMs=6', undefined],
  ]);
});
