/** Where all of the SDK takes its time from. */
export { type Clock, monotonicClock, pause } from '@perdure/clock';
