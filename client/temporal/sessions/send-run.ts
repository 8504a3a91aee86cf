/** Sends runs: the workflow of the session is the claim to an id, so no store is asked on the way of a message. */
import type { RunRequestBody } from '../../../contracts/api/session-request.ts';
import { canonicalHash } from '../../../contracts/canonical-json.ts';
import { isKilnError, KilnError } from '../../../domain/failures.ts';
import type { SessionName, ThreadName } from '../../../domain/names.ts';
import { DEFAULT_SESSION_POLICIES } from '../../../domain/policies.ts';
import { type EndedRun, isUnsure, type KnownRun, type RunOrder } from '../../../domain/session/run-book.ts';
import { sendRunUpdate } from '../../../workflows/session/session-messages.ts';
import { isUnavailable } from '../temporal-calls.ts';
import { mintId } from '../workloads/create-workload.ts';
import type { SessionClientContext } from './session-client-context.ts';
import { nameOf, openRecord } from './session-names.ts';
import { MAX_TRIES, overInTemporal, unknownOutcome, updateOrStart } from './session-updates.ts';

/** @throws as `SessionClient.send` */
export async function sendRun(
  context: SessionClientContext,
  name: ThreadName,
  { id = mintId('r'), ifEnded, ...request }: RunRequestBody,
): Promise<KnownRun> {
  const bodyHash = await bodyHashOf(request);
  const onRecord = () => endedRun(context, name, id, bodyHash);
  const send = (restart?: 'restart') => sendToSession(context, name, { id, bodyHash, request, ifEnded: restart });
  const taken = await send().catch(async (error: unknown) => {
    if (!isKilnError(error, 'CONFLICT', 'SESSION_CLOSED', 'SESSION_EXPIRED')) throw error;
    // What has ended is answered, also where its session has, or where somebody used its id for something else. Of what
    // is deleted, and perhaps not gone yet, nothing is known any more.
    const ended = error.details.as === 'deleted' ? undefined : await onRecord();
    if (ended !== undefined) return ended;
    if (ifEnded === undefined || error.code === 'CONFLICT') throw error;
    return send(ifEnded);
  });
  // The workflow looks for an id of long ago only when it is its turn, and its sender would never know of another body.
  const ended = isUnsure(taken) ? await onRecord() : undefined;
  return ended ?? taken;
}

interface Sent {
  readonly id: string;
  readonly bodyHash: string;
  readonly request: Omit<RunRequestBody, 'id' | 'ifEnded'>;
  readonly ifEnded: 'restart' | undefined;
}

async function sendToSession(
  context: SessionClientContext,
  name: ThreadName,
  { id, bodyHash, request, ifEnded }: Sent,
): Promise<KnownRun> {
  for (let tries = 1; ; tries++) {
    const record = await openRecord(context, name, { ifEnded });
    const order = await orderOf(context, nameOf(record), id, bodyHash, request);
    const taken = await updateOrStart(context, record, sendRunUpdate, order, context.timings.sendMs).catch(
      (error: unknown) => {
        throw isUnavailable(error) ? unknownOutcome(record.thread, error) : error;
      },
    );
    if (taken !== 'over') {
      context.sent.set({ ...taken, session: nameOf(record) });
      return taken.run;
    }
    // The record was too old, or the workflow was ended from outside: its own record decides.
    context.lately.forget(name);
    if (tries >= MAX_TRIES) throw await overInTemporal(context, record);
  }
}

/** @returns how a run of that id ended in any session of the thread. @throws CONFLICT where it had another body */
async function endedRun(
  { books }: SessionClientContext,
  name: ThreadName,
  runId: string,
  bodyHash: string,
): Promise<(KnownRun & { state: 'ended' }) | undefined> {
  const found = (await books.runs.read(name, runId))?.run;
  if (found === undefined) return undefined;
  if (found.bodyHash === bodyHash) return { state: 'ended', run: found };
  throw otherBody(found);
}

function otherBody({ id }: EndedRun): KilnError {
  return new KilnError('CONFLICT', `The run ${id} had another body; choose another id, or send the same body.`);
}

async function orderOf(
  { books }: SessionClientContext,
  session: SessionName,
  id: string,
  bodyHash: string,
  { command, env = {}, timeoutMs, repeatable = false }: Sent['request'],
): Promise<RunOrder> {
  const { body, bytes } = await books.requests.seal(session, id, { argv: command, env });
  return {
    id,
    idSha256: await sha256(id),
    bodyHash,
    bytes,
    body,
    timeoutMs: timeoutMs ?? DEFAULT_SESSION_POLICIES.run.timeoutMs,
    repeatable,
  };
}

/** What makes two requests of one id the same; what becomes of an ended thread is not part of it. */
function bodyHashOf({ command, env, timeoutMs, repeatable }: Sent['request']): Promise<string> {
  return canonicalHash({ command, env, timeoutMs, repeatable });
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Buffer.from(digest).toString('hex');
}
