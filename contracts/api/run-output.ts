/** Events of a stream of a run's output. The id of an event is the position behind it, over both streams together. */
import { z } from 'zod';

export const outputEventSchema = z.object({
  stream: z.enum(['stdout', 'stderr']),
  offset: z.int().min(0),
  base64: z.base64(),
});
export type OutputEvent = z.infer<typeof outputEventSchema>;

/** Output that is not there any more. */
export const gapEventSchema = z.object({ offset: z.int().min(0), bytes: z.int().min(1) });
export type GapEvent = z.infer<typeof gapEventSchema>;
