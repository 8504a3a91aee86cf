/** Times of activities as Temporal has recorded them. Pure. */
import type { FetchedHistory } from '../client/temporal/archive/recorded-events.ts';

type Time = NonNullable<FetchedHistory['events']>[number]['eventTime'];

/** @returns ms from the start to the completion of each completed activity of that type, in order */
export function activityTimes(histories: readonly FetchedHistory[], type: string): number[] {
  return histories.flatMap(({ events }) => {
    const byId = new Map((events ?? []).map((event) => [String(event.eventId), event]));
    return (events ?? []).flatMap(({ activityTaskCompletedEventAttributes: completed, eventTime }) => {
      const scheduled = byId.get(String(completed?.scheduledEventId))?.activityTaskScheduledEventAttributes;
      if (scheduled?.activityType?.name !== type) return [];
      return [msOf(eventTime) - msOf(byId.get(String(completed?.startedEventId))?.eventTime)];
    });
  });
}

function msOf(time: Time): number {
  return Number(time?.seconds ?? Number.NaN) * 1_000 + (time?.nanos ?? 0) / 1e6;
}
