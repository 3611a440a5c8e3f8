/** Times and spans for people and for JSON. */
import type { Timestamp } from '@bufbuild/protobuf/wkt';
import { dateOf } from '@perdure/proto';

/** Local time to the second, with its offset from UTC: `2026-11-23 20:41:04+01:00`, `2026-11-23 19:41:04Z`. */
export function timeText(timestamp: Timestamp | undefined): string {
  const date = dateOf(timestamp);
  if (date === undefined) return '';
  const pad = (n: number) => String(n).padStart(2, '0');
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  const offset = -date.getTimezoneOffset();
  const hours = Math.trunc(Math.abs(offset) / 60);
  const zone = offset === 0 ? 'Z' : `${offset < 0 ? '-' : '+'}${pad(hours)}:${pad(Math.abs(offset) % 60)}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}${zone}`;
}

/** A time and how far it is from another: `2026-11-23 21:41:05Z (in 50.9 min)`, `… (55 s ago)`. */
export function timeFromText(timestamp: Timestamp | undefined, now: Timestamp | undefined): string {
  const ms = betweenMs(now, timestamp);
  if (ms === undefined) return timeText(timestamp);
  return `${timeText(timestamp)} (${ms >= 0 ? `in ${spanText(ms)}` : `${spanText(-ms)} ago`})`;
}

/** For `-o json`; null when there is none. */
export function timeJson(timestamp: Timestamp | undefined): string | null {
  return dateOf(timestamp)?.toISOString() ?? null;
}

/** `3.2 s`, `5 min`, `2 d`. */
export function spanText(ms: number | undefined): string {
  if (ms === undefined) return '';
  const units: readonly [number, string][] = [
    [86_400_000, 'd'],
    [3_600_000, 'h'],
    [60_000, 'min'],
    [1_000, 's'],
  ];
  for (const [size, unit] of units) if (Math.abs(ms) >= size) return `${Math.round((ms / size) * 10) / 10} ${unit}`;
  return `${Math.round(ms)} ms`;
}

/** Time from one to the other. */
export function betweenMs(from: Timestamp | undefined, to: Timestamp | undefined): number | undefined {
  const start = dateOf(from);
  const end = dateOf(to);
  return start === undefined || end === undefined ? undefined : end.getTime() - start.getTime();
}
