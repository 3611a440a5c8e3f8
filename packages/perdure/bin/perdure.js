#!/usr/bin/env node
import '@perdure/cli/bin/perdure.js';
