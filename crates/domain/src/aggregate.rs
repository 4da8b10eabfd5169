//! The bridge to cqrs-es: an aggregate here is a pure `decide` and a pure `apply`.

use cqrs_es::Aggregate;

/// An aggregate whose decisions are a plain function of its state and the command.
///
/// cqrs-es's own `handle` is async and writes to a sink; each aggregate implements it by this one.
pub trait Decide: Aggregate<Services = ()> {
    /// The events that the command leads to; none when it asks for what is already so.
    ///
    /// # Errors
    /// When a rule refuses the command. Nothing has changed then.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Self::Error>;
}

/// Implements cqrs-es's [`Aggregate`] by the type's own `decide` and `evolve`, and its event's names.
macro_rules! handled_by_decide {
    ($aggregate:ident, $command:ty, $event:ty, $error:ty) => {
        impl cqrs_es::Aggregate for $aggregate {
            const TYPE: &'static str = stringify!($aggregate);
            type Command = $command;
            type Event = $event;
            type Error = $error;
            type Services = ();

            async fn handle(
                &mut self,
                command: Self::Command,
                (): &(),
                sink: &cqrs_es::event_sink::EventSink<Self>,
            ) -> Result<(), Self::Error> {
                for event in crate::Decide::decide(self, command)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: Self::Event) {
                self.evolve(event);
            }
        }

        impl cqrs_es::DomainEvent for $event {
            fn event_type(&self) -> String {
                <&'static str>::from(self).to_owned()
            }

            fn event_version(&self) -> String {
                crate::upcasting::LIFTS.version(self.into()).to_string()
            }
        }
    };
}
pub(crate) use handled_by_decide;
