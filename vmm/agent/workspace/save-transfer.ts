import {
  chunkSchema,
  entryToJson,
  skippedPathSchema,
  workspaceEntrySchema,
} from '../../../contracts/workspace-entries.ts';
import { KilnError } from '../../../domain/failures.ts';
import { isWorkspacePath, type WorkspaceEntry } from '../../../domain/session/workspace.ts';
import type { RestoreRecord, SaveRecord, SaveRequest } from '../../../ports/guest-agent.ts';
import { IdleWatch } from '../inbound/idle-watch.ts';
import { InboundReadable } from '../inbound/inbound-readable.ts';
import { parseMessage, restoredMessage, saveOpened, saveSummary } from '../messages.ts';
import { type Mux, parseReply } from '../mux.ts';
import type { MuxStream } from '../mux-stream.ts';
import { encodeRecord, RECORD, RecordReader, type WireRecord } from './records.ts';

const wireEntry = workspaceEntrySchema(chunkSchema);

/**
 * Reads a save. `return` ends it in the guest at once, also while a record is waited for.
 * @param idleMs how long the guest may be silent, ms
 * @throws AGENT_PROTOCOL, AGENT_TIMEOUT, AGENT_LOST, or the guest's refusal
 */
export function saveWorkspace(mux: Mux, request: SaveRequest, idleMs: number): AsyncIterableIterator<SaveRecord> {
  const told: SaveAnswers = {};
  const data = new InboundReadable({
    what: 'A save of the workspace',
    idleMs,
    open: (sink) =>
      mux.open(
        { kind: 'save', ...request },
        {
          opened: (payload) => {
            told.opened = parseMessage(saveOpened, payload, 'reply');
          },
          data: (payload) => sink.add(payload),
          done: (payload) => {
            told.done = payload;
            sink.end();
          },
          failed: (error) => sink.fail(error),
        },
      ),
  });
  // Whoever reads is told of a failure; where nobody reads any more, nobody is left to be told.
  data.on('error', () => undefined);
  const records = saveRecords(data, told);
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next: () => records.next(),
    async return() {
      data.destroy();
      await records.return(undefined).catch(() => undefined);
      return { done: true, value: undefined };
    },
  };
}

/** What a guest says beside the data of a save. */
interface SaveAnswers {
  opened?: { readonly delta: boolean };
  done?: Buffer;
}

async function* saveRecords(data: InboundReadable, told: SaveAnswers): AsyncGenerator<SaveRecord, undefined> {
  let isFinished = false;
  let isOpened = false;
  for await (const record of recordsIn(data)) {
    // Data comes after `opened` alone; the stream sees to that.
    const delta = told.opened?.delta === true;
    if (isFinished) throw wrongOrder('something after its end');
    if (!isOpened) yield { kind: 'opened', delta };
    isOpened = true;
    if (record.type === RECORD.finish) isFinished = true;
    else if (record.type !== RECORD.progress) yield parsed(record, delta);
  }
  if (!isFinished || told.done === undefined) throw wrongOrder('no end');
  yield { kind: 'done', summary: parseMessage(saveSummary, told.done, 'reply') };
}

async function* recordsIn(data: InboundReadable): AsyncGenerator<WireRecord> {
  const reader = new RecordReader();
  for await (const piece of data) {
    if (!Buffer.isBuffer(piece)) throw new KilnError('INTERNAL', 'What comes from a guest is bytes.');
    yield* reader.push(piece);
  }
  if (!reader.isBetween) throw wrongOrder('half a record at its end');
}

function parsed({ type, payload }: WireRecord, delta: boolean): SaveRecord {
  switch (type) {
    case RECORD.chunk:
      return { kind: 'chunk', data: payload };
    case RECORD.entry:
      return { kind: 'entry', entry: parseMessage(wireEntry, payload, 'file entry') };
    case RECORD.skipped:
      return { kind: 'skipped', skipped: parseMessage(skippedPathSchema, payload, 'skipped path') };
    case RECORD.removed: {
      const path = payload.toString('latin1');
      if (!delta || !isWorkspacePath(path)) throw wrongOrder('a path that cannot have been removed');
      return { kind: 'removed', path };
    }
    default:
      throw wrongOrder('a record that fits nowhere');
  }
}

function wrongOrder(what: string): KilnError {
  return new KilnError('AGENT_PROTOCOL', `The guest agent sent a save with ${what}.`);
}

/**
 * Sends a whole workspace, and waits until it is in place.
 * @throws DISK_FULL, CONFLICT, AGENT_PROTOCOL, AGENT_TIMEOUT, AGENT_LOST, or the error of the records
 */
export async function restoreWorkspace(
  mux: Mux,
  request: Omit<SaveRequest, 'baseSaveId'>,
  records: AsyncIterable<RestoreRecord>,
  idleMs: number,
): Promise<{ entries: number; bytes: number }> {
  const begun = begin(mux, request, idleMs);
  const { stream, idle, answer } = begun;
  try {
    for await (const record of records) {
      if (stream.over) break;
      await idle.during(stream.send(encoded(record)));
    }
    if (!stream.over) await idle.during(stream.send(encodeRecord(RECORD.finish, NOTHING)));
  } catch (error) {
    if (idle.expired !== undefined) throw idle.expired;
    // A stream that is over has said why in its answer.
    if (!stream.over) {
      stream.reset('CANCELLED', 'the source of the workspace failed');
      throw error;
    }
  }
  stream.end();
  return idle.during(answer);
}

const NOTHING = Buffer.alloc(0);

interface BegunRestore {
  readonly stream: MuxStream;
  readonly idle: IdleWatch;
  readonly answer: Promise<{ entries: number; bytes: number }>;
}

function begin(mux: Mux, request: Omit<SaveRequest, 'baseSaveId'>, idleMs: number): BegunRestore {
  const { promise: answer, resolve, reject } = Promise.withResolvers<{ entries: number; bytes: number }>();
  // It is awaited once all is sent.
  answer.catch(() => undefined);
  const stream: MuxStream = mux.open(
    { kind: 'restore', ...request },
    {
      // The guest says only that it still works.
      data: (payload) => {
        stream.grant(payload.length);
        idle.touch();
      },
      done: (payload) => parseReply(restoredMessage, payload, resolve, reject),
      failed: reject,
    },
  );
  const idle = new IdleWatch('A restore of the workspace', idleMs, (reason) => stream.reset('TIMED_OUT', reason));
  return { stream, idle, answer };
}

function encoded(record: RestoreRecord): Buffer {
  if (record.kind === 'chunk') return encodeRecord(RECORD.chunk, record.data);
  return encodeRecord(RECORD.entry, Buffer.from(JSON.stringify(wireJson(record.entry))));
}

function wireJson(entry: WorkspaceEntry): unknown {
  return entryToJson(entry, ({ id, bytes }) => [id, bytes]);
}
