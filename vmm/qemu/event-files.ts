import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EVENT_FILES } from './command-line.ts';

/**
 * Files of a QMP monitor without a client: QEMU reads from one the command that opens the monitor, and appends every
 * event to the other. Must exist before QEMU starts.
 */
export async function writeEventFiles(directory: string): Promise<void> {
  await writeFile(join(directory, EVENT_FILES.input), '{"execute":"qmp_capabilities"}\n', { mode: 0o600 });
  await writeFile(join(directory, EVENT_FILES.output), '', { mode: 0o600 });
}
