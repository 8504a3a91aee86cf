import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import {
  MAX_OUTPUT_BYTES,
  type OutputPiece,
  type RunOutputReply,
  runOutputPath,
  runOutputQuerySchema,
} from '../../contracts/host/data-plane.ts';
import { VM_ID_PATTERN } from '../../contracts/host/instance-record.ts';
import { KilnError } from '../../domain/failures.ts';
import type { ExecOutput } from '../../ports/guest-agent.ts';
import type { SessionRuns } from '../../ports/runs.ts';

const paramsSchema = z.object({
  vmId: z.string().regex(VM_ID_PATTERN),
  turn: z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
});

/** Adds the route by which gateways read and follow the output of runs. */
export function addRunOutputRoute(server: FastifyInstance, runs: Pick<SessionRuns, 'followOutput'>): void {
  server.get(runOutputPath(':vmId', ':turn'), async (request, reply): Promise<RunOutputReply> => {
    const run = paramsSchema.safeParse(request.params);
    const query = runOutputQuerySchema.safeParse(request.query);
    if (!run.success || !query.success) {
      throw new KilnError('SPEC_INVALID', 'Give the id of a VM, the number of a turn, `after` and `waitMs`.');
    }
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    const { pieces, ...rest } = await runs.followOutput(run.data, {
      ...query.data,
      maxBytes: MAX_OUTPUT_BYTES,
      signal: gone.signal,
    });
    return { pieces: pieces.map(encoded), ...rest };
  });
}

function encoded(piece: ExecOutput): OutputPiece {
  if (piece.kind === 'gap') return piece;
  return { kind: piece.stream, offset: piece.offset, base64: piece.data.toString('base64') };
}
