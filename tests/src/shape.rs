//! In which shape of Tollgate a scenario takes place. A promise is kept in both, so a scenario is a function
//! of the shape, and [`in_both_shapes!`](crate::in_both_shapes) makes two tests of it.

/// How the processes are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `tollgate up`: one process on embedded parts.
    OneMachine,
    /// Three ingresses, two billing processes and, where there is a cache, one cache-service, on a real
    /// broker, a real Redis and the engine behind its URL.
    Split,
}

/// Two tests of each function: `one_machine::name` and `split::name`.
///
/// The scripted provider serves on the test's own runtime, which therefore has a thread to spare for
/// when the scenario blocks one.
#[macro_export]
macro_rules! in_both_shapes {
    ($($scenario:ident),+ $(,)?) => {
        mod one_machine {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario($crate::Shape::OneMachine).await;
            })+
        }
        mod split {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario($crate::Shape::Split).await;
            })+
        }
    };
}
