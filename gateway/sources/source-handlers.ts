/** Routes of uploaded sources. */
import { KilnError } from '../../domain/failures.ts';
import type { StoredSources } from '../../store/sources/sources.ts';
import type { RouteHandlers } from '../route-binding.ts';
import { receiveSource, type SourceUploadLimits } from './source-upload.ts';

export interface SourceHandlerOptions {
  readonly sources: StoredSources;
  /** For the files of running uploads. */
  readonly directory: string;
  /** At the same time: each upload holds a file open. */
  readonly maxUploads: number;
  readonly limits: SourceUploadLimits;
}

export function sourceHandlers(options: SourceHandlerOptions): Pick<RouteHandlers, 'uploadSource' | 'getSource'> {
  return {
    uploadSource: uploadHandler(options),
    getSource: async ({ params: { sha256 } }) => {
      const found = await options.sources.find(sha256);
      if (found === undefined) throw new KilnError('NOT_FOUND', `No sources ${sha256} are stored.`, { sha256 });
      return { status: 200, body: found };
    },
  };
}

function uploadHandler({
  sources,
  directory,
  maxUploads,
  limits,
}: SourceHandlerOptions): RouteHandlers['uploadSource'] {
  let open = 0;
  return async ({ query, upload }, _request, reply) => {
    // After a refusal in the middle of a body, the start of the next request is unknown.
    const refusing = (): void => void reply.header('connection', 'close');
    if (open >= maxUploads) {
      refusing();
      throw new KilnError('QUEUE_FULL', `This gateway receives ${maxUploads} uploads already; try again in a moment.`);
    }
    open++;
    try {
      const { path, release, ...received } = await receiveSource(upload, directory, limits);
      try {
        assertDigest(received.sha256, query.sha256);
        const { source, created } = await sources.save(path, received);
        return { status: created ? 201 : 200, body: source };
      } finally {
        await release();
      }
    } catch (error) {
      if (!upload.bytes.readableEnded) refusing();
      throw error;
    } finally {
      open--;
    }
  };
}

function assertDigest(found: string, wanted: string | undefined): void {
  if (wanted === undefined || wanted === found) return;
  throw new KilnError(
    'SPEC_INVALID',
    `The tar has sha256 ${found}, not ${wanted} as the request says; it was changed on the way, or packed anew.`,
    { found, wanted },
  );
}
