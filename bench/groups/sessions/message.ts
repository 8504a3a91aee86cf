import { Client, Connection } from '@temporalio/client';
import { createKilnClient, type KilnClient } from '../../../client/http/index.ts';
import { fetchChain } from '../../../client/temporal/archive/fetch-executions.ts';
import { sessionWorkflowId } from '../../../domain/names.ts';
import { quietRuntime } from '../../../test/support/workers/kiln-harness.ts';
import { activityTimes } from '../../activity-times.ts';
import { type BenchStack, preciseNow, startBenchStack } from '../../dev-stack.ts';
import type { Measurement } from '../../figure.ts';
import type { GroupOptions } from '../../group-options.ts';
import { echoOnce, firstByteAt, untilWarm } from '../../session-calls.ts';
import { type ExecRival, RIVAL, startExecRival } from './exec-rival.ts';
import { measureNewThreads } from './new-threads.ts';
import { measureWakes } from './wakes.ts';

const THREAD = 'message';
/** So long that the next run is taken before this one ends. */
const BUSY = ['sh', '-c', 'sleep 1; echo done'];
/** More vCPUs than this machine may give out by default: guests that rest need none. */
const ROOM = { KILN_HOST_VCPUS: '64' };
const TIMINGS = { callMs: 60_000, queryMs: 5_000, pollerFreshMs: 60_000, backlogMs: 3_000 };

/**
 * From a message to the first byte of its output, over HTTP, in real guests: to a session that rests, to one that is at work, to a new
 * thread, and to many that rest at once. Samples of the rival are taken between those of Kiln.
 */
export async function measureSession(options: GroupOptions): Promise<readonly Measurement[]> {
  quietRuntime();
  const { directory, signal } = options;
  const stack = await startBenchStack(directory, signal, ROOM);
  const measured: Measurement[] = [];
  try {
    const client = createKilnClient(stack.info);
    const rival = await startExecRival(stack.info, options);
    try {
      measured.push(await warm(client, rival, options), await hot(client, rival, options));
      measured.push(await resumes(stack, rival));
      await client.session(THREAD).close();
      measured.push(await measureWakes(client, rival, options));
    } finally {
      await rival.close();
    }
    measured.push(await measureNewThreads(stack, options));
  } finally {
    await stack.close();
  }
  return measured;
}

async function warm(client: KilnClient, rival: ExecRival, { n, say, signal }: GroupOptions): Promise<Measurement> {
  const session = client.session(THREAD);
  const [kiln, samples]: [number[], number[]] = [[], []];
  // The first of each boots or loads what the others find.
  await echoOnce(session, signal);
  await rival.once();
  for (let sample = 0; sample < n; sample += 1) {
    await untilWarm(session, signal);
    kiln.push(await echoOnce(session, signal));
    samples.push(await rival.once());
    if ((sample + 1) % 20 === 0) say(`session: warm, ${sample + 1} of ${n}`);
  }
  return { name: 'session-warm', unit: 'ms', kiln, rival: { words: RIVAL, samples } };
}

/** From the last byte of the run before, written just ahead of its end, to the first byte of the run that has waited for it. */
async function hot(client: KilnClient, rival: ExecRival, { n, say, signal }: GroupOptions): Promise<Measurement> {
  const session = client.session(THREAD);
  const [kiln, samples]: [number[], number[]] = [[], []];
  let late = 0;
  while (kiln.length < n) {
    const before = session.command(BUSY, { signal });
    const next = session.command(['echo', 'x'], { signal });
    const taken = next.accepted().then(preciseNow);
    const [takenAt, endedAt, at] = await Promise.all([taken, firstByteAt(before), firstByteAt(next)]);
    samples.push(await rival.once());
    if (takenAt < endedAt) kiln.push(at - endedAt);
    else late += 1;
    if (late > n) throw new Error('messages take longer than the runs that they were to wait for');
  }
  say(`session: hot, ${n} (${late} more were taken too late to count)`);
  return { name: 'session-hot', unit: 'ms', kiln, rival: { words: RIVAL, samples } };
}

/** The activity as Temporal has recorded it, so with the report of its end to Temporal. */
async function resumes({ info }: BenchStack, rival: ExecRival): Promise<Measurement> {
  const connection = await Connection.connect({ address: info.temporal.address });
  try {
    const client = new Client({ connection, namespace: info.temporal.namespace });
    const workflowId = sessionWorkflowId({ project: 'default', thread: THREAD, incarnation: 1 });
    const kiln = activityTimes(await fetchChain({ client, timings: TIMINGS }, workflowId), 'resumeVm');
    const samples: number[] = [];
    for (let sample = 0; sample < kiln.length; sample += 1) samples.push(await rival.resume());
    return { name: 'session-resume', unit: 'ms', kiln, rival: { words: 'resume of the driver alone', samples } };
  } finally {
    await connection.close();
  }
}
