//! Why a test fails, to be said once more below the logs that are shown then.

use std::cell::RefCell;
use std::panic::{set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static WHY: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Remembers from now on what each thread panics for.
pub(crate) fn remember() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = take_hook();
        set_hook(Box::new(move |panic| {
            let _ = WHY.try_with(|why| why.replace(panic.to_string()));
            told(panic);
        }));
    });
}

/// What this thread has panicked for.
pub(crate) fn why() -> String {
    WHY.with_borrow(String::clone)
}
