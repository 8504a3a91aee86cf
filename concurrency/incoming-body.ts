/** Bodies of HTTP requests that are read as they arrive, on connections that still need an answer. */
import { type Readable, Transform } from 'node:stream';

/**
 * @returns the body as a stream that can be destroyed without the connection
 * @param errors what it fails with: on more than `maxBytes`, and where the body breaks off
 */
export function boundedBody(
  body: Readable,
  maxBytes: number,
  errors: { readonly tooLarge: () => Error; readonly brokenOff: () => Error },
): Readable {
  let bytes = 0;
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      done(bytes > maxBytes ? errors.tooLarge() : null, chunk);
    },
  });
  const onClose = () => {
    if (!body.readableEnded) bounded.destroy(errors.brokenOff());
  };
  body.once('error', onClose).once('close', onClose);
  return body.pipe(bounded);
}

/** Reads on for a while after a refusal: if a connection closes with unread bytes, the answer is lost. */
export async function drainBody(
  body: Readable,
  { maxBytes, drainMs }: { readonly maxBytes: number; readonly drainMs: number },
): Promise<void> {
  if (body.readableEnded || body.destroyed) return;
  const over = Promise.withResolvers<void>();
  let bytes = 0;
  const onData = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > maxBytes) over.resolve();
  };
  const timer = setTimeout(over.resolve, drainMs);
  const end = () => over.resolve();
  body.on('data', onData).once('end', end).once('close', end).resume();
  await over.promise;
  clearTimeout(timer);
  body.off('data', onData).off('end', end).off('close', end).pause();
}
