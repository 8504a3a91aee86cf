/** Handlers of the routes of files in the workspaces of sessions. */
import { once } from 'node:events';
import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import type { HeldSession, SessionClient } from '../../client/temporal/sessions/session-client.ts';
import { boundedBody, drainBody } from '../../concurrency/incoming-body.ts';
import { BYTES_TYPE } from '../../contracts/api/routes/route.ts';
import type { SESSION_FILE_ROUTES } from '../../contracts/api/routes/session-files.ts';
import { FILE_KIND_HEADER, FILE_TIME_HEADER } from '../../contracts/host/vm-files.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { ThreadName } from '../../domain/names.ts';
import type { HoldKind } from '../../domain/session/holds.ts';
import { isStored } from '../../domain/session/save-book.ts';
import { MAX_PUT_BYTES, putSizeOf } from '../../domain/session/workspace-path.ts';
import type { FileLook } from '../../ports/session-files.ts';
import type { HostEntries } from '../hosts/host-entries.ts';
import type { RouteHandlers } from '../route-binding.ts';
import type { FilesAt, HostFiles } from './host-files.ts';
import { threadOf } from './session-handlers.ts';
import { type UntilSavedOptions, untilSaved } from './until-saved.ts';

type FileHandlers = Pick<RouteHandlers, keyof typeof SESSION_FILE_ROUTES>;

export interface FileHandlerOptions {
  readonly sessions: Pick<SessionClient, 'hold' | 'get'>;
  readonly files: HostFiles;
  readonly hosts: HostEntries;
  /** Transfers at a time: each has two connections open. */
  readonly maxTransfers: number;
  /** How long a caller waits for the VM of a session, ms. */
  readonly vmWaitMs: number;
  /** How long a caller waits for a file to be in the store, and the pauses between two looks, ms. */
  readonly saves: Omit<UntilSavedOptions, 'signal'> & { readonly waitMs: number };
  /** How long the rest of a refused upload is read, ms. */
  readonly drainMs: number;
  /** Aborted when the gateway ends. */
  readonly ending: AbortSignal;
}

export function fileHandlers(options: FileHandlerOptions): FileHandlers {
  const { files } = options;
  const transfers = new Transfers(options);
  return {
    async listSessionFiles({ params, query }) {
      const name = threadOf(params.thread, query);
      const dir = query.dir ?? '';
      const { entries, isCut } = await transfers.run(name, 'readFiles', 'again', (at) => files.list(at, dir));
      return { status: 200, body: { items: [...entries], isCut } };
    },
    async getSessionFile({ params, query }, request, reply) {
      const name = threadOf(params.thread, query);
      if (request.method === 'HEAD') {
        const found = await transfers.run(name, 'readFiles', 'again', (at) => files.look(at, params.path));
        return described(reply, found).send(Readable.from([]));
      }
      return transfers.run(name, 'readFiles', 'again', async (at) => {
        const { content, ...look } = await files.read(at, params.path);
        void described(reply, look).send(content);
        // The VM has to run until the last byte.
        if (!reply.raw.closed) await once(reply.raw, 'close');
        return reply;
      });
    },
    putSessionFile: putHandler(options, transfers),
    async deleteSessionFile({ params: { thread, path }, query }) {
      const name = threadOf(thread, query);
      await transfers.run(name, 'writeFiles', 'once', (at) => files.remove(at, path));
      return { status: 200, body: { path } };
    },
  };
}

function putHandler(options: FileHandlerOptions, transfers: Transfers): FileHandlers['putSessionFile'] {
  const { files, drainMs } = options;
  return async ({ params: { thread, path }, query, upload }, request, reply) => {
    const name = threadOf(thread, query);
    const body = upload.bytes;
    try {
      const bytes = putSizeOf(request.headers['content-length']);
      const { created } = await transfers.run(name, 'writeFiles', 'once', (at) => {
        const content = boundedBody(body, bytes, { tooLarge: brokenOff, brokenOff });
        return files.write(at, path, { bytes, content });
      });
      const saved = query.wait === 'saved' ? { saved: await isSaved(options, name) } : {};
      return { status: created ? 201 : 200, body: { path, bytes, ...saved } };
    } catch (error) {
      await drainBody(body, { maxBytes: MAX_PUT_BYTES, drainMs });
      // After a refusal in the middle of a body, the start of the next request is unknown.
      if (!body.readableEnded) void reply.header('connection', 'close');
      throw error;
    }
  };
}

/** Waits until nothing of the workspace is unsaved. @returns whether that came in time */
async function isSaved({ sessions, saves, ending }: FileHandlerOptions, name: ThreadName): Promise<boolean> {
  const signal = AbortSignal.any([ending, AbortSignal.timeout(saves.waitMs)]);
  const look = async () => {
    const { state } = await sessions.get(name);
    return state?.saves?.stored !== undefined && isStored(state.saves) ? true : undefined;
  };
  return (await untilSaved(look, { ...saves, signal })) ?? false;
}

/** Failures that say that the VM may not be there any more. */
const MAY_BE_GONE = ['HOST_LOST', 'AGENT_LOST', 'AGENT_TIMEOUT', 'VMM_EXITED', 'GUEST_CRASHED'] as const;

class Transfers {
  private readonly options: FileHandlerOptions;
  private open = 0;

  constructor(options: FileHandlerOptions) {
    this.options = options;
  }

  /** @param tries `again`: where the VM was not there, the work is done once more, in the VM that there is then */
  async run<T>(
    name: ThreadName,
    kind: HoldKind,
    tries: 'once' | 'again',
    work: (at: FilesAt) => Promise<T>,
  ): Promise<T> {
    const { sessions, maxTransfers, vmWaitMs } = this.options;
    if (this.open >= maxTransfers) {
      throw new KilnError('QUEUE_FULL', `This gateway transfers ${maxTransfers} files already; try again in a moment.`);
    }
    this.open += 1;
    try {
      return await sessions.hold(name, { kind, waitMs: vmWaitMs }, async (held, ask) => {
        try {
          return await work(await this.at(held, { newest: tries === 'once' }));
        } catch (error) {
          if (!isKilnError(error, ...MAY_BE_GONE)) throw error;
          this.options.hosts.forget(held.hostId);
          // A session that has been closed meanwhile says so.
          const now = await ask();
          if (tries === 'once') throw error;
          return work(await this.at(now, { newest: true }));
        }
      });
    } finally {
      this.open -= 1;
    }
  }

  private async at(
    { hostId, vmId, epoch, workflowId }: HeldSession,
    how: { readonly newest: boolean },
  ): Promise<FilesAt> {
    const { hosts, ending } = this.options;
    const host = await hosts.read(hostId, how);
    if (host === undefined) throw new KilnError('HOST_LOST', `Host ${hostId} has not registered lately.`, { hostId });
    return { host, vm: { vmId, epoch, workflowId }, signal: ending };
  }
}

function described(reply: FastifyReply, { kind, bytes, modifiedAt }: FileLook): FastifyReply {
  return reply.type(BYTES_TYPE).headers({
    'content-length': String(bytes),
    'x-content-type-options': 'nosniff',
    [FILE_KIND_HEADER]: kind,
    [FILE_TIME_HEADER]: modifiedAt,
  });
}

function brokenOff(): KilnError {
  return new KilnError('SPEC_INVALID', 'The upload broke off before its end; send it again.');
}

/** @returns handlers of a gateway that was given no sessions */
export function noFileHandlers(): FileHandlers {
  const refuse = async (): Promise<never> => {
    throw new KilnError('UNSUPPORTED', 'This gateway was started without sessions.');
  };
  return { listSessionFiles: refuse, getSessionFile: refuse, putSessionFile: refuse, deleteSessionFile: refuse };
}
