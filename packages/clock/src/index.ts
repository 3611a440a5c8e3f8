export { type Clock, every, monotonicClock, pause } from './clock.js';
