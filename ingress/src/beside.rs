//! What runs in the same process beside the calls (the relay, the lanes), as readiness and metrics see it.

/// One part that tells how it is. Asked now and then: answers at once.
pub trait Beside: Send + Sync {
    /// Adds its families, in Prometheus' text format.
    fn metrics(&self, out: &mut String);

    /// Adds what keeps this process from its work.
    fn missing(&self, out: &mut Vec<String>);

    /// Adds what is late or out of reach while the work goes on.
    fn degraded(&self, out: &mut Vec<String>);
}
