import { close, open, read } from 'node:fs';
import { promisify } from 'node:util';

const [openFile, closeFile] = [promisify(open), promisify(close)];
/** More than most files of a process hold. */
const FIRST_BYTES = 4096;

/**
 * Reads one of the files of `/proc/<pid>` that are given whole in one read: `cmdline`, `environ`, `stat`, `status`,
 * `smaps_rollup`. Their size says 0, for which `readFile` takes 64 KiB of memory each: looking at every process of a
 * machine would make the garbage collector go through the whole heap.
 * @returns its text, read as UTF-8 @throws what the system answers: ENOENT or ESRCH where the process is gone
 */
export async function readProcFile(path: string): Promise<string> {
  const descriptor = await openFile(path, 'r');
  try {
    let buffer = Buffer.allocUnsafe(FIRST_BYTES);
    let length = 0;
    for (;;) {
      const bytes = await readInto(descriptor, buffer, length);
      length += bytes;
      if (bytes === 0 || length < buffer.length) return buffer.toString('utf8', 0, length);
      buffer = Buffer.concat([buffer], buffer.length * 2);
    }
  } finally {
    await closeFile(descriptor);
  }
}

function readInto(descriptor: number, buffer: Buffer, offset: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(descriptor, buffer, offset, buffer.length - offset, null, (error, bytes) =>
      error ? reject(error) : resolve(bytes),
    );
  });
}
