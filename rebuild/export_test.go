package rebuild

// KeepStates makes folds keep their states after so many events.
func (s *Service) KeepStates(every int) { s.foldEvery = every }
