/** The part of `FileHandle` used here. */
export interface PositionedWriter {
  write(data: Buffer, offset: number, length: number, position: number): Promise<{ readonly bytesWritten: number }>;
}

/** Writes all of `data` from `position` on: a single write may take only a part of it without an error. */
export async function writeAll(file: PositionedWriter, data: Buffer, position: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    const { bytesWritten } = await file.write(data, done, data.length - done, position + done);
    done += bytesWritten;
  }
}
