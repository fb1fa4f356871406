# Each target is one line into scripts/, where the work and the explanations are.
.PHONY: run dist setup test check fmt e2e bench bench-inference bench-gateway screenshots try-telemetry try-vulkan try-cuda

run:         ; @scripts/run
dist:        ; @scripts/build dist
setup:       ; @scripts/setup test
test:        ; @scripts/test
check:       ; @scripts/check
fmt:         ; @scripts/fmt
e2e:         ; @scripts/e2e
bench:       ; @scripts/bench
bench-inference: ; @scripts/bench-inference
bench-gateway: ; @scripts/bench-gateway
screenshots: ; @scripts/screenshots
try-telemetry: ; @scripts/try-telemetry
try-vulkan:  ; @scripts/try-gpu vulkan
try-cuda:    ; @scripts/try-gpu cuda
