//! What the processor has spent on this process.

use std::time::Duration;

/// Processor time of all threads that live, so far, where the system tells.
pub fn processor_time() -> Duration {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten() {
        let Ok(task) = task else { continue };
        // A thread may end while it is looked at.
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text
            .split(' ')
            .next()
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Duration::from_nanos(nanoseconds)
}
