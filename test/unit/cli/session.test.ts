import { describe, expect, it } from 'vitest';
import type { RunOutputEvent } from '../../../client/http/sessions/run-output.ts';
import type { CreateSessionBody, SendRunBody } from '../../../contracts/api/session-request.ts';
import type { RunView } from '../../../contracts/api/session-view.ts';
import { KilnError } from '../../../domain/failures.ts';
import { apiWith, at, type CliWorld, kiln } from '../../support/gateway/cli-fixtures.ts';
import { finishedRun, runViewWith, sessionViewWith } from '../../support/gateway/run-views.ts';

type Api = NonNullable<CliWorld['api']>;
const json = (text: string): unknown[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
const bytes = (text: string) => Buffer.from(text);

describe('wrong usage', () => {
  it.each([
    [['session', 'create'], "missing required argument 'thread'"],
    [['session', 'create', '.hidden'], 'the thread: must be'],
    [['session', 'create', 't', '--egress', 'http://a'], '--egress'],
    [['session', 'create', 't', '--mem-mib', '1'], 'whole number'],
    [['session', 'create', 't', '--idle', '10'], 'such as 90s'],
    [['session', 'create', 't', '--ttl', '366d'], 'such as 90s'],
    [['session', 'run', 't'], 'the command: is missing'],
    [['session', 'run', 't', '--message', ''], '--message: '],
    [['session', 'fork', 't', '.copy'], 'the copy: must be'],
    [['session', 'fork', 't', 'copy', '--turn', '0'], 'whole number'],
    [['session', 'run', 't', 'ls', '-l'], 'unknown option'],
    [['session', 'run', 't', '--id', 'a b', '--', 'ls'], '--id: must be'],
    [['session', 'run', 't', '--env', 'A-B=1', '--', 'ls'], '--env A-B'],
    [['session', 'run', 't', '--timeout', '25h', '--', 'ls'], 'such as 90s'],
    [['session', 'run', 't', '--if-ended', 'fail', '--', 'ls'], 'Allowed choices are restart'],
    [['session', 'run', 't', '--', 'ls', 'a\0b'], 'the command: must not contain NUL'],
    [['session', 'list', '--tier', 'lukewarm'], 'Allowed choices are new'],
    [['session', 'close', 't', '--wait-ms', '60001'], 'whole number'],
  ])('is answered with 2, and nothing is sent: %j', async (args, message) => {
    const { stdout, stderr, exitCode } = await kiln(args);
    expect(stderr).toContain(message);
    expect([stdout, exitCode]).toEqual(['', 2]);
  });
});

describe('kiln session create', () => {
  it('sends what the options say and nothing else', async () => {
    const sent: [string | undefined, CreateSessionBody][] = [];
    const createSession: Api['createSession'] = async ({ query, body }) => {
      sent.push([query?.project, body]);
      return sessionViewWith({ tier: 'cold', turns: 0 });
    };
    await kiln(['session', 'create', 'thread-42'], { api: { createSession } });
    const more = ['--project', 'p-1', '--image', 'python', '--vcpus', '2', '--mem-mib', '1024', '--disk-mib', '4096'];
    const names = ['--egress', 'example.org', '--egress', '*.example.net:443', '--if-ended', 'restart'];
    const times = ['--idle', '90s', '--ttl', '7d'];
    const all = await kiln(['session', 'create', 'thread-42', ...more, ...names, ...times], { api: { createSession } });
    expect(all.stdout).toContain('tier       cold\n');
    expect(all.exitCode).toBe(0);
    expect(sent).toEqual([
      [undefined, { thread: 'thread-42' }],
      [
        'p-1',
        {
          thread: 'thread-42',
          image: 'python',
          resources: { vcpus: 2, memMib: 1024, diskMib: 4096 },
          egress: ['example.org', '*.example.net:443'],
          tiers: { idleMs: 90_000, ttlMs: 604_800_000 },
          ifEnded: 'restart',
        },
      ],
    ]);
  });
});

/** @returns an API on which a run is taken, has this output, and ends so */
function running(ended: RunView, pieces: readonly RunOutputEvent[] = [], sent: SendRunBody[] = []): Api {
  return {
    sendRun: async ({ body }) => {
      sent.push(body);
      return runViewWith(body.id ?? '');
    },
    getRun: async () => ended,
    async *streamRunOutput() {
      yield* pieces;
      yield { kind: 'end', run: ended };
    },
  };
}

describe('kiln session run', () => {
  it('sends the words behind -- and what the options say', async () => {
    const sent: SendRunBody[] = [];
    const options = ['--id', 'msg-7', '--env', 'A=1=2', '--env', 'B=', '--timeout', '10m', '--repeatable'];
    const command = ['sh', '-c', 'echo $A', '--json', '--', '-x'];
    const api = running(finishedRun('msg-7'), [], sent);
    const args = ['session', 'run', 'thread-42', ...options, '--if-ended', 'restart', '--', ...command];
    expect(await kiln(args, { api })).toEqual({ stdout: '', stderr: '', exitCode: 0 });
    const env = { A: '1=2', B: '' };
    expect(sent).toEqual([{ id: 'msg-7', command, env, timeoutMs: 600_000, repeatable: true, ifEnded: 'restart' }]);
  });

  it('passes output through unchanged, each stream to its own, and says what is lost', async () => {
    const api = running(finishedRun('a'), [
      { kind: 'output', stream: 'stdout', offset: 0, bytes: bytes('\u001b[31mr\u00e9').subarray(0, 7) },
      { kind: 'output', stream: 'stderr', offset: 7, bytes: bytes('warn\n') },
      { kind: 'output', stream: 'stdout', offset: 12, bytes: bytes('\u00e9').subarray(1) },
      { kind: 'gap', offset: 13, bytes: 5 },
    ]);
    const { stdout, stderr } = await kiln(['session', 'run', 'thread-42', '--', 'x'], { api });
    expect(stdout).toBe('\u001b[31mr\u00e9');
    expect(stderr).toBe('warn\n[5 bytes of output are lost]\n');
  });

  it.each([
    [{ code: 7 }, 7],
    [{ code: 255 }, 255],
    [{ code: null, signal: 'SIGKILL' }, 137],
    [{ code: null, signal: 'SIGTERM' }, 143],
    [{ code: null, signal: 'SIGOFLATER' }, 128],
    [{ code: null, signal: null }, 1],
  ])('has the exit code of the command: %j', async (exit, exitCode) => {
    expect((await kiln(['session', 'run', 't', '--', 'x'], { api: running(finishedRun('a', exit)) })).exitCode).toBe(
      exitCode,
    );
  });

  it('with --json prints the run at its end, and nothing else there', async () => {
    const pieces = [{ kind: 'output', stream: 'stdout', offset: 0, bytes: bytes('text') }] as const;
    const view = finishedRun('a', { code: 3 });
    const { stdout, exitCode } = await kiln(['session', 'run', 't', '--json', '--', 'x'], {
      api: running(view, pieces),
    });
    expect([json(stdout), exitCode]).toEqual([[view], 3]);
  });

  it.each([
    [{ state: 'failed', failure: { code: 'RUN_TIMEOUT', message: 'It took too long.' } }, 'RUN_TIMEOUT'],
    [{ state: 'cancelled', cause: 'SESSION_CLOSED' }, 'SESSION_CLOSED'],
  ] as const)('that did not exit says why, with 1: %j', async (more, code) => {
    const view = runViewWith('a', more);
    const plain = await kiln(['session', 'run', 't', '--', 'x'], { api: running(view) });
    expect(plain).toMatchObject({ stdout: '', stderr: expect.stringContaining(`kiln: ${code}: `), exitCode: 1 });
    const answered = await kiln(['session', 'run', 't', '--json', '--', 'x'], { api: running(view) });
    expect(json(answered.stdout)).toEqual([view]);
    expect(json(answered.stderr)).toMatchObject([{ error: { code } }]);
  });

  it('with --detach ends once the run is taken', async () => {
    const api: Api = { sendRun: async () => runViewWith('a', { ahead: 2 }) };
    const { stdout, stderr, exitCode } = await kiln(['session', 'run', 't', '--detach', '--id', 'a', '--', 'x'], {
      api,
    });
    expect(stdout).toMatch(/^run {7}a\nthread .+\nstate {5}waiting\nahead {5}2\n/);
    expect(stderr).toBe('Follow it with: kiln session output t a\n');
    expect(exitCode).toBe(0);
  });

  it('names the id to repeat it with where nobody answered', async () => {
    const session: Api['session'] = (thread, options) =>
      apiWith({ sendRun: () => Promise.reject(new KilnError('API_UNAVAILABLE', 'No answer.')) }).session(thread, {
        ...options,
        repeat: { tries: 2, pauseMs: 1 },
      });
    const { stderr, exitCode } = await kiln(['session', 'run', 't', '--id', 'msg-7', '--', 'x'], { api: { session } });
    expect(stderr).toContain('It may have begun: repeat the command with --id msg-7.\nkiln: API_UNAVAILABLE');
    expect(exitCode).toBe(1);
  });
});

function aborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) resolve();
    else signal?.addEventListener('abort', () => resolve());
  });
}

describe('Ctrl-C', () => {
  const cancelled = runViewWith('a', { state: 'cancelled', cause: 'CANCEL_ASKED' });

  /** @returns an API on which a run goes on until it is cancelled, and then takes until `dies` resolves */
  function untilCancelled(first: AbortController, dies: Promise<void> = Promise.resolve()): Api {
    let wasAsked: () => void = () => undefined;
    const asked = new Promise<void>((resolve) => {
      wasAsked = resolve;
    });
    return {
      sendRun: async ({ body }) => runViewWith(body.id ?? ''),
      getRun: async () => cancelled,
      cancelRun: async () => {
        wasAsked();
        return runViewWith('a', { state: 'running', turn: 1 });
      },
      async *streamRunOutput(_run, { signal } = {}) {
        yield { kind: 'output', stream: 'stdout', offset: 0, bytes: bytes('begun\n') };
        first.abort();
        await asked;
        await Promise.race([dies, aborted(signal)]);
        if (signal?.aborted !== true) yield { kind: 'end', run: cancelled };
      },
    };
  }

  it('cancels the run and waits for its end', async () => {
    const first = new AbortController();
    const world = { api: untilCancelled(first), interrupt: first.signal };
    const { stdout, stderr, exitCode } = await kiln(['session', 'run', 't', '--id', 'a', '--', 'x'], world);
    expect([stdout, exitCode]).toEqual(['begun\n', 130]);
    expect(stderr).toBe('Cancelling the run a; Ctrl-C again leaves at once.\n');
  });

  it('a second time leaves', async () => {
    const [first, second] = [new AbortController(), new AbortController()];
    const api = untilCancelled(first, new Promise(() => undefined));
    const { cancelRun } = api;
    const leaving: Api = {
      ...api,
      cancelRun: async (...args) => {
        queueMicrotask(() => second.abort());
        return cancelRun === undefined ? cancelled : cancelRun(...args);
      },
    };
    const world = { api: leaving, interrupt: first.signal, interruptAgain: second.signal };
    const { stderr, exitCode } = await kiln(['session', 'run', 't', '--id', 'a', '--', 'x'], world);
    expect(stderr).toContain('No longer waiting for the run a.\n');
    expect(exitCode).toBe(130);
  });

  it('says why the run could not be cancelled', async () => {
    const first = new AbortController();
    const api: Api = {
      ...untilCancelled(first),
      cancelRun: () => Promise.reject(new KilnError('UNAUTHORIZED', 'The token is not known.')),
      async *streamRunOutput(_run, { signal } = {}) {
        yield { kind: 'output', stream: 'stdout', offset: 0, bytes: bytes('begun\n') };
        first.abort();
        await aborted(signal);
      },
    };
    const { stderr, exitCode } = await kiln(['session', 'run', 't', '--', 'x'], { api, interrupt: first.signal });
    expect(stderr).toContain('kiln: UNAUTHORIZED: The token is not known.');
    expect(exitCode).toBe(1);
  });
});

describe('kiln session inspect', () => {
  const view = sessionViewWith({
    tier: 'hot',
    hostId: 'host-1',
    vmId: 'thread-42-1-x',
    running: { id: 'msg-7', turn: 3, startedAt: at(40) },
    waiting: [{ id: 'msg-8', acceptedAt: at(90) }],
    lost: { afterTurn: 2, reason: 'its VM ended' },
    events: [
      { seq: 1, at: at(1), what: 'tier', to: 'cold', cause: 'MESSAGE', why: 'a first message asked for it' },
      { seq: 2, at: at(2), what: 'run msg-7', to: 'running', cause: 'RUN_TURN', why: 'it is its turn' },
    ],
  });

  it('tells what it is, what runs and waits, and why', async () => {
    const { stdout } = await kiln(['session', 'inspect', 'thread-42'], { api: { getSession: async () => view } });
    for (const line of [
      /^tier {7}hot$/m,
      /^turns {6}3$/m,
      /^running {4}msg-7 \(turn 3, for 1 min 00 s\)$/m,
      /^lost {7}the workspace, after turn 2: its VM ended$/m,
      /^host {7}host-1$/m,
      /^vm {9}thread-42-1-x$/m,
      /^expires {4}2030-01-31T12:00:00.000Z \(without activity for 30 d 00 h\)$/m,
      /^ {2}msg-8 {2}10.0 s$/m,
      /^ {2}\S+ {2}tier +cold +MESSAGE +a first message asked for it$/m,
      /^ {2}\S+ {2}run msg-7 {2}running {2}RUN_TURN {2}it is its turn$/m,
    ]) {
      expect(stdout).toMatch(line);
    }
  });

  it('tells how it has ended', async () => {
    const { expiresAt: _, ...ended } = sessionViewWith({
      tier: 'closed',
      end: { as: 'closed', at: at(9), cause: 'CLOSE_ASKED', lastTurn: 3 },
    });
    const { stdout } = await kiln(['session', 'inspect', 'thread-42'], { api: { getSession: async () => ended } });
    expect(stdout).toMatch(/^ended {6}closed at 2030-01-01T12:00:09.000Z: CLOSE_ASKED, last turn 3$/m);
    expect(stdout).not.toContain('expires');
  });

  it('is the view itself with --json, of the project that was named', async () => {
    const asked: unknown[] = [];
    const getSession: Api['getSession'] = async (request) => {
      asked.push(request);
      return view;
    };
    const { stdout } = await kiln(['session', 'inspect', 'thread-42', '--json', '--project', 'p-1'], {
      api: { getSession },
    });
    expect(json(stdout)).toEqual([view]);
    expect(asked).toEqual([{ params: { thread: 'thread-42' }, query: { project: 'p-1' } }]);
  });
});

describe('kiln session list', () => {
  const items = [
    { thread: 'b', project: 'default', tier: 'warm', hostId: 'host-1', createdAt: at(40) },
    { thread: 'a', project: 'p-1', tier: 'closed', createdAt: at(0), closedAt: at(50) },
  ] as const;

  it('is a table, and one document a session with --json', async () => {
    const queries: unknown[] = [];
    const listSessions: Api['listSessions'] = async ({ query } = {}) => {
      queries.push(query);
      return { items: [...items] };
    };
    const { stdout } = await kiln(['session', 'list', '--tier', 'warm', '--project', 'p'], { api: { listSessions } });
    expect(stdout.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
      ['THREAD', 'PROJECT', 'TIER', 'AGE', 'HOST', 'ENDED'],
      ['b', 'default', 'warm', '1 min 00 s', 'host-1', '-'],
      ['a', 'p-1', 'closed', '1 min 40 s', '-', at(50)],
      [''],
    ]);
    expect(queries).toEqual([{ project: 'p', tier: 'warm', limit: 50 }]);
    expect(json((await kiln(['session', 'list', '--json'], { api: { listSessions } })).stdout)).toEqual(items);
  });
});

describe('kiln session output', () => {
  const pieces: readonly RunOutputEvent[] = [
    { kind: 'output', stream: 'stderr', offset: 2, bytes: bytes('warn\n') },
    { kind: 'gap', offset: 7, bytes: 3 },
    { kind: 'end', run: runViewWith('a', { state: 'failed', failure: { code: 'RUN_LOST', message: 'gone' } }) },
  ];

  it('goes to the streams it came from, from a position on, and tells a run that failed', async () => {
    const asked: unknown[] = [];
    const api: Api = {
      async *streamRunOutput(run, { project, after } = {}) {
        asked.push([run, project, after]);
        yield* pieces;
      },
    };
    const args = ['session', 'output', 't', 'a', '--after', '2', '--project', 'p'];
    const { stdout, stderr, exitCode } = await kiln(args, { api });
    expect([stdout, exitCode]).toEqual(['', 0]);
    expect(stderr).toBe('warn\n[3 bytes of output are lost]\nThe run a failed: RUN_LOST: gone\n');
    expect(asked).toEqual([[{ thread: 't', id: 'a' }, 'p', 2]]);
    expect(json((await kiln([...args, '--json'], { api })).stdout)).toEqual([
      { stream: 'stderr', offset: 2, base64: 'd2Fybgo=' },
      { offset: 7, bytes: 3 },
    ]);
  });

  it('ends with 130 at Ctrl-C; the run goes on', async () => {
    const interrupt = new AbortController();
    const api: Api = {
      async *streamRunOutput() {
        yield { kind: 'output', stream: 'stdout', offset: 0, bytes: bytes('one') };
        interrupt.abort();
      },
    };
    const { stdout, exitCode } = await kiln(['session', 'output', 't', 'a'], { api, interrupt: interrupt.signal });
    expect([stdout, exitCode]).toEqual(['one', 130]);
  });
});

describe('kiln session close', () => {
  it.each([
    [[], true, 0],
    [[], false, 1],
    [['--wait-ms', '0'], false, 0],
  ])('%j, closed in time: %s', async (options, settled, exitCode) => {
    const end = { as: 'closed', at: at(9), cause: 'CLOSE_ASKED', lastTurn: 3 } as const;
    const bodies: unknown[] = [];
    const closeSession: Api['closeSession'] = async ({ body }) => {
      bodies.push(body);
      return sessionViewWith(settled ? { tier: 'closed', end } : {});
    };
    const closed = await kiln(['session', 'close', 't', ...options], { api: { closeSession } });
    expect(closed.exitCode).toBe(exitCode);
    expect(closed.stdout.includes('ended      closed')).toBe(settled);
    expect(bodies).toEqual([options.length === 0 ? {} : { waitMs: 0 }]);
  });
});
