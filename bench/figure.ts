/** Compares samples of Kiln with samples of a rival from the same run. Pure. */

/** Samples of one figure, all in `unit`, in the order they were taken. */
export interface Measurement {
  readonly name: string;
  /** Of times and sizes less is better, of rates more. */
  readonly unit: 'ms' | 'MiB' | 'rounds/s' | 'lines/s' | 'events' | 'bytes' | 'calls' | 'calls/min';
  readonly kiln: readonly number[];
  readonly rival: {
    /** What Kiln is compared with, in words. */
    readonly words: string;
    readonly samples: readonly number[];
  };
}

/** One figure as `--json` prints it. All numbers but `n` and `ratio` are in `unit`. */
export interface Figure {
  readonly unit: string;
  /** Samples of Kiln. */
  readonly n: number;
  /** Median of Kiln. */
  readonly kiln: number;
  readonly kilnP95: number;
  readonly kilnP99: number;
  readonly kilnMax: number;
  /** The rival in words, with its median and number of samples. */
  readonly rival: string;
  readonly rivalMedian: number;
  readonly rivalP95: number;
  readonly rivalP99: number;
  /** Median of the rival over the median of Kiln; with a time, above 1 means that Kiln is faster. */
  readonly ratio: number;
}

/**
 * The value below which the share `p` (0 to 1) of the samples lies, interpolated between neighbours.
 * @throws RangeError where there are no samples or `p` is out of range.
 */
export function percentile(samples: readonly number[], p: number): number {
  if (!(p >= 0 && p <= 1)) throw new RangeError(`p must lie between 0 and 1, not ${p}`);
  const sorted = [...samples].sort((a, b) => a - b);
  const place = p * (sorted.length - 1);
  const below = sorted[Math.floor(place)];
  const above = sorted[Math.ceil(place)];
  if (below === undefined || above === undefined) throw new RangeError('a percentile needs samples');
  return Math.min(above, below + (above - below) * (place - Math.floor(place)));
}

/** @returns the middle of the samples. @throws RangeError where there are none. */
export function median(samples: readonly number[]): number {
  return percentile(samples, 0.5);
}

/** @returns the figure of a measurement, numbers rounded to measurable precision. */
export function figureOf({ unit, kiln, rival }: Measurement): Figure {
  const kilnMedian = median(kiln);
  const rivalMedian = median(rival.samples);
  return {
    unit,
    n: kiln.length,
    kiln: rounded(kilnMedian),
    kilnP95: rounded(percentile(kiln, 0.95)),
    kilnP99: rounded(percentile(kiln, 0.99)),
    kilnMax: rounded(percentile(kiln, 1)),
    rival: `${rival.words}: ${rounded(rivalMedian)} ${unit} (n = ${rival.samples.length})`,
    rivalMedian: rounded(rivalMedian),
    rivalP95: rounded(percentile(rival.samples, 0.95)),
    rivalP99: rounded(percentile(rival.samples, 0.99)),
    ratio: rounded(rivalMedian / kilnMedian),
  };
}

/** Three digits where that many mean something; whole numbers from 100 on. */
function rounded(value: number): number {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return Number(value.toFixed(digits));
}
