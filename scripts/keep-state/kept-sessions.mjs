/**
 * The sessions of `npm run keep-state`, by REST alone: one that is closed after two runs, one that is deleted, and one
 * whose VM waits paused after a run of which only the first lines are in the store.
 */
import { writeFileSync } from 'node:fs';
import { until, vmProcesses } from './kept-stack.mjs';

const OVER = ['closed-1', 'deleted-1'];
const AT_REST = 'warm-1';
/** What is sent to each thread, and has ended when the state is saved. */
const RUNS = {
  'closed-1': [
    { id: 'first', command: ['sh', '-c', "printf 'one\\ncaf\\303\\251\\n'; echo kept > note"] },
    { id: 'second', command: ['sh', '-c', 'cat note; echo oops >&2; exit 7'] },
  ],
  'deleted-1': [{ id: 'only', command: ['sh', '-c', 'echo what is deleted'] }],
  'warm-1': [{ id: 'early', command: ['sh', '-c', 'echo early > note; cat note'] }],
};
/**
 * Its output is cut in two by the gate, a file in `/tmp` of its guest. The second half is one write: the gateway, which
 * looks for more of it in the store, cannot be asked for the rest.
 */
const LATE = {
  id: 'late',
  command: [
    'sh',
    '-c',
    'echo shipped; until [ -e /tmp/gate ]; do sleep 0.05; done; echo "$(cat note), unshipped"; exit 3',
  ],
};

/** Sessions that have ended: how many closed workflows they leave. */
export const ENDED_SESSIONS = OVER.length;

/** @returns whether the API of this checkout has sessions that can be deleted */
export async function hasSessions({ api }) {
  const { paths } = await api('GET', '/openapi.json');
  return paths['/api/sessions/{thread}']?.delete !== undefined;
}

/** Runs the threads that end, and ends them. */
export async function endSessions(stack) {
  for (const thread of OVER) await runAll(stack, thread);
  await stack.api('POST', '/api/sessions/closed-1/close', {});
  const { end } = await stack.api('DELETE', '/api/sessions/deleted-1');
  if (end?.emptiedAt === undefined) throw new Error('deleted-1 is not empty yet');
}

/**
 * Begins a run that waits for its gate.
 * @returns `{vmId, text, output}`: an object of that VM with that text has its first lines; its output once it has ended
 */
export async function beginLateRun(stack) {
  await runAll(stack, AT_REST);
  await stack.api('POST', `/api/sessions/${AT_REST}/runs`, LATE);
  await untilListed(stack, 'hot');
  const { vmId } = await stack.api('GET', `/api/sessions/${AT_REST}`);
  const output = outputOf(stack, LATE.id, AT_REST, ', unshipped\n');
  // Where another step fails first, that one is reported.
  output.catch(() => undefined);
  return { vmId, text: 'shipped\n', output };
}

/** @returns what the API answers for each thread, and what was sent to it. Needs the store. */
export async function sessionViews(stack) {
  const views = {};
  for (const [thread, sent] of Object.entries(RUNS)) {
    const session = await stack.api('GET', `/api/sessions/${thread}`);
    const { items: runs } = await stack.api('GET', `/api/sessions/${thread}/runs`);
    const outputs = {};
    for (const { id, state } of runs) if (state !== 'running') outputs[id] = await outputOf(stack, id, thread);
    views[thread] = { sent, session, runs, outputs };
  }
  return views;
}

/**
 * Lets the late run end, and its session come to rest, without the store.
 * @returns its output, and the session as it is listed then
 */
export async function endLateRun(stack, { vmId, output }) {
  const vm = vmProcesses(stack).find(({ argv }) => argv[0] === 'unshare' && argv.some((word) => word.includes(vmId)));
  writeFileSync(`/proc/${vm.pid}/root/tmp/gate`, '');
  return { outputs: { [LATE.id]: await output }, listed: await untilListed(stack, 'warm') };
}

async function runAll({ api }, thread) {
  for (const run of RUNS[thread]) {
    const { state } = await api('POST', `/api/sessions/${thread}/runs?wait=finished`, run);
    if (state !== 'finished') throw new Error(`run ${run.id} of ${thread} is ${state}`);
  }
}

/** The list comes from Temporal alone. */
function untilListed({ api }, tier) {
  return until(async () =>
    (await api('GET', `/api/sessions?tier=${tier}`)).items.find(({ thread }) => thread === AT_REST),
  );
}

/** @returns the text of each stream, up to the end of the run or until one of them ends with a text */
async function outputOf({ info }, id, thread, last) {
  const headers = { authorization: `Bearer ${info.token}` };
  const reply = await fetch(`${info.apiUrl}/api/sessions/${thread}/runs/${id}/output`, { headers });
  const texts = { stdout: '', stderr: '' };
  let rest = '';
  for await (const text of reply.body.pipeThrough(new TextDecoderStream())) {
    const events = (rest + text).split('\n\n');
    rest = events.pop();
    for (const [, event, data] of events.map((each) => /^event: (.*)\ndata: (.*)$/m.exec(each) ?? [])) {
      if (event === 'end') return texts;
      if (event === undefined) continue;
      if (event !== 'output') throw new Error(`the output of run ${id} of ${thread} has ${event}: ${data}`);
      const { stream, base64 } = JSON.parse(data);
      texts[stream] += Buffer.from(base64, 'base64').toString('utf8');
      if (last !== undefined && texts[stream].endsWith(last)) return texts;
    }
  }
  throw new Error(`the output of run ${id} of ${thread} broke off`);
}
