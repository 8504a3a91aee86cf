/** What a `FileHandle` is here. */
export interface PositionedWriter {
  write(data: Buffer, offset: number, length: number, position: number): Promise<{ readonly bytesWritten: number }>;
}

/** Writes all of `data` from `position` on: one write may take only a part of it, and fails nowhere for that. */
export async function writeAll(file: PositionedWriter, data: Buffer, position: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    const { bytesWritten } = await file.write(data, done, data.length - done, position + done);
    done += bytesWritten;
  }
}
