# The public names, in the direction in which data flow. The package reads this list to import each
# name when it is first used, and type checkers read it as it stands.

from . import analysis as analysis
from . import landscapes as landscapes
from . import plots as plots
from . import symbolic as symbolic
from . import theory as theory
from . import valleys as valleys
from .curriculum import integrate_schedule as integrate_schedule
from .curriculum import integrate_schedules as integrate_schedules
from .data import Data as Data
from .design import design_curriculum as design_curriculum
from .flow import integrate as integrate
from .flow import integrate_ensemble as integrate_ensemble
from .landscape import Landscape as Landscape
from .nested_logit import NestedLogit as NestedLogit
from .network.minimal import MinimalHead as MinimalHead
from .network.training import train as train
from .network.transformer import Transformer as Transformer
from .rules import Adam as Adam
from .rules import Gradient as Gradient
from .rules import Langevin as Langevin
from .rules import Momentum as Momentum
from .schedule import Adaptive as Adaptive
from .schedule import Schedule as Schedule
from .store import load as load
from .store import save as save
from .sweeps import sweep as sweep
from .symbolic.functions import cross_entropy as cross_entropy
from .symbolic.functions import log_sum_exp as log_sum_exp
from .symbolic.functions import softmax as softmax
from .task import Task as Task
from .trajectory import Ensemble as Ensemble
from .trajectory import Trajectory as Trajectory
from .trajectory import Transition as Transition

__version__: str
