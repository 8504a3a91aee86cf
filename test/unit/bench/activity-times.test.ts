import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { describe, expect, it } from 'vitest';
import { activityTimes } from '../../../bench/activity-times.ts';

const event = (eventId: number, ms: number, more: object) => ({ eventId: `${eventId}`, eventTime: at(ms), ...more });
const at = (ms: number) => new Date(1_700_000_000_000 + ms).toISOString();
const scheduled = (eventId: number, ms: number, name: string) =>
  event(eventId, ms, {
    eventType: 'EVENT_TYPE_ACTIVITY_TASK_SCHEDULED',
    activityTaskScheduledEventAttributes: { activityType: { name } },
  });
const started = (eventId: number, ms: number, scheduledEventId: number) =>
  event(eventId, ms, {
    eventType: 'EVENT_TYPE_ACTIVITY_TASK_STARTED',
    activityTaskStartedEventAttributes: { scheduledEventId: `${scheduledEventId}` },
  });
const completed = (eventId: number, ms: number, scheduledEventId: number, startedEventId: number) =>
  event(eventId, ms, {
    eventType: 'EVENT_TYPE_ACTIVITY_TASK_COMPLETED',
    activityTaskCompletedEventAttributes: {
      scheduledEventId: `${scheduledEventId}`,
      startedEventId: `${startedEventId}`,
    },
  });

describe('times of activities', () => {
  it('are those from start to completion of one type, those under way left out, over all executions', () => {
    const first = historyFromJSON({
      events: [
        scheduled(1, 0, 'resumeVm'),
        scheduled(2, 1, 'runTurn'),
        started(3, 20, 1),
        started(4, 21, 2),
        completed(5, 27, 1, 3),
        completed(6, 90, 2, 4),
        scheduled(7, 100, 'resumeVm'),
        started(8, 101, 7),
      ],
    });
    const second = historyFromJSON({
      events: [scheduled(1, 0, 'resumeVm'), started(2, 5, 1), completed(3, 1_005, 1, 2)],
    });
    expect(activityTimes([first, second], 'resumeVm')).toEqual([7, 1_000]);
  });

  it('are none where nothing was recorded', () => {
    expect(activityTimes([{}], 'resumeVm')).toEqual([]);
  });
});
